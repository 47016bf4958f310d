use super::*;

#[test]
fn le_is_sorted_among_the_labels() {
    for (labels, before, after) in [
        ("", "", ""),
        ("a=\"1\"", "a=\"1\"", ""),
        ("z=\"1\"", "", "z=\"1\""),
        ("a=\",\",b=\"2,\",m=\"3\"", "a=\",\",b=\"2,\"", "m=\"3\""),
        ("\"a.b\"=\"1\",lf=\"2\"", "\"a.b\"=\"1\"", "lf=\"2\""),
    ] {
        assert_eq!(split_at(labels, "le"), (before, after), "{labels}");
    }
}

#[test]
fn each_line_of_a_histogram_is_a_series() {
    let histogram = Histogram {
        bounds: Arc::from([0.005, 1.0]),
        counts: Box::new([1.0, 2.0]),
        count: 3.0,
        sum: Some(2.5),
        fractions: None,
        native: None,
    };
    let mut lines = Vec::new();
    let state = SeriesState::Histogram(histogram);
    let mut buffer = String::new();
    let mut take = |series: &str| lines.push(series.to_owned());
    each_line("h", "a=\"1\",z=\" 2\"", &state, &mut buffer, &mut take);
    let number = SeriesState::Number(1.0);
    each_line("my.g", "", &number, &mut buffer, &mut take);
    assert_eq!(
        lines,
        [
            "h_bucket{a=\"1\",le=\"0.005\",z=\" 2\"}",
            "h_bucket{a=\"1\",le=\"1\",z=\" 2\"}",
            "h_bucket{a=\"1\",le=\"+Inf\",z=\" 2\"}",
            "h_sum{a=\"1\",z=\" 2\"}",
            "h_count{a=\"1\",z=\" 2\"}",
            "{\"my.g\"}",
        ]
    );
}
