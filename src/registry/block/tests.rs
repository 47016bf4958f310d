use super::*;
use crate::registry::time::NEVER;

#[test]
fn slots_of_removed_series_are_reused() {
    let mut block = Block::new(Kind::Gauge);
    for number in 0..SLOTS {
        assert!(block.has_room());
        let labels = format!("number=\"{number}\"");
        let slot = block.insert(&labels, SeriesState::Number(number as f64), NEVER, 0);
        assert_eq!(slot, number);
    }
    assert!(!block.has_room());
    let full = block.labels().capacity();
    for slot in 10..SLOTS {
        block.remove(slot);
        assert_eq!(block.labels().get(slot), None);
    }
    assert!(
        block.labels().capacity() < full * 2 / 3,
        "dead text is left"
    );
    assert_eq!(block.labels().get(9), Some("number=\"9\""));
    assert_eq!(block.insert("", SeriesState::Number(5.0), 7, 0), 10);
    assert_eq!(block.labels().get(10), Some(""));
    assert_eq!(block.state(10), SeriesState::Number(5.0));
    assert_eq!((block.deadline(10), block.deadline(11)), (7, NEVER));
    assert!(block.expired(6).is_empty());
    assert_eq!(block.expired(7), [10]);
    assert_eq!(block.labels().iter().count(), 11);
}

#[test]
fn a_block_of_histograms_holds_fewer_series() {
    let mut block = Block::new(Kind::Histogram);
    let histogram = Histogram {
        bounds: (0..30).map(f64::from).collect(),
        counts: vec![0.0; 30].into(),
        count: 0.0,
        sum: Some(0.0),
        fractions: None,
        native: None,
    };
    let mut series = 0;
    while block.has_room() {
        let labels = format!("number=\"{series}\"");
        block.insert(&labels, SeriesState::Histogram(histogram.clone()), NEVER, 0);
        series += 1;
    }
    assert_eq!(series, 4);
    block.set(0, SeriesState::Histogram(Histogram::default()), NEVER, 0);
    assert!(block.has_room());
}
