//! The project's goals, the results, and whether they meet the goals.

use crate::cases::Outcome;
use crate::data::Kind;
use crate::gateway::{Gateway, Rate};
use crate::measure::{Change, Coding, Who};
use crate::pushes::{Pace, PushTimes, Way};
use crate::report::{p99_ratio, times};
use bench::figures::percentile;

/// A goal: a figure and its bound.
struct Row {
    what: &'static str,
    asked: Asked,
    /// `None` if it was not measured.
    figure: Option<f64>,
    /// Origin of the figure.
    detail: String,
}

#[derive(Clone, Copy)]
enum Asked {
    AtLeast(f64, &'static str),
    AtMost(f64, &'static str),
    Bytes(f64),
}

impl Asked {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Asked::AtLeast(bound, _) => figure >= bound,
            Asked::AtMost(bound, _) | Asked::Bytes(bound) => figure <= bound,
        }
    }

    fn figure(self, figure: f64) -> String {
        match self {
            Asked::Bytes(_) => format!("{figure:.0} bytes"),
            _ => times(figure),
        }
    }

    fn text(self) -> String {
        match self {
            Asked::AtLeast(bound, of) => format!("at least {bound} {of}"),
            Asked::AtMost(bound, of) => format!("at most {bound} {of}"),
            Asked::Bytes(bound) => format!("at most {bound} bytes"),
        }
    }
}

/// Figures of one case, if it ran.
#[derive(Clone, Copy)]
struct Figures<'o>(Option<&'o Outcome>);

impl<'o> Figures<'o> {
    fn of(outcomes: &'o [Outcome], name: &str) -> Self {
        Figures(outcomes.iter().find(|it| it.case.name == name))
    }

    /// The median with one scraper.
    fn time(self, who: Who, change: Change, coding: Coding) -> Option<f64> {
        self.0?.measured.time((who, change, coding, 1), 0.5)
    }

    fn size(self, who: Who, coding: Coding) -> Option<f64> {
        Some(self.0?.measured.size(who, coding)? as f64)
    }

    /// Memory per byte of text, after one scrape of each coding.
    fn memory(self, who: Who) -> Option<f64> {
        let outcome = self.0?;
        let (_, memory) = outcome.memory.iter().find(|it| it.0 == who)?;
        Some(memory.scraped / outcome.text as f64)
    }

    fn memory_at_end(self, who: Who) -> Option<f64> {
        let outcome = self.0?;
        let (_, memory) = outcome.memory.iter().find(|it| it.0 == who)?;
        Some(memory.end / outcome.text as f64)
    }

    fn push(self, who: Who, way: Way, pace: Pace) -> Option<&'o PushTimes> {
        let pushes = &self.0?.pushes.as_ref()?.pushes;
        pushes
            .iter()
            .find(|it| (it.who, it.way, it.pace) == (who, way, pace))
    }
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? / b?)
}

/// The largest, if none is missing.
fn worst(ratios: &[Option<f64>]) -> Option<f64> {
    let ratios: Option<Vec<f64>> = ratios.iter().copied().collect();
    ratios?.into_iter().reduce(f64::max)
}

fn list(ratios: &[(&str, Option<f64>)]) -> String {
    let each = ratios.iter().map(|(what, ratio)| match ratio {
        Some(ratio) => format!("{what} {}", times(*ratio)),
        None => format!("{what} not measured"),
    });
    each.collect::<Vec<_>>().join(", ")
}

pub fn print(outcomes: &[Outcome], gateway: Option<&Gateway>) {
    println!("\n## Targets\n");
    println!("| What | Asked | Measured | Reached | From |\n| --- | --- | ---: | --- | --- |");
    let rows = rows(outcomes);
    for row in rows.into_iter().chain(gateway_rows(gateway)) {
        let (measured, reached) = match row.figure {
            None => ("not measured".to_owned(), "–"),
            Some(figure) => {
                let reached = if row.asked.is_met(figure) {
                    "yes"
                } else {
                    "**no**"
                };
                (row.asked.figure(figure), reached)
            }
        };
        let (what, asked, from) = (row.what, row.asked.text(), row.detail);
        println!("| {what} | {asked} | {measured} | {reached} | {from} |");
    }
}

fn rows(outcomes: &[Outcome]) -> Vec<Row> {
    let apps = Figures::of(outcomes, "apps");
    let mut rows = scrape_rows(apps);
    rows.push(small_row(apps, Figures::of(outcomes, "small")));
    rows.push(merged_row(Figures::of(outcomes, "merged")));
    rows.extend(push_rows(apps));
    rows.push(Row {
        what: "resident memory, after scrapes of both codings",
        asked: Asked::AtMost(2.5, "x the text"),
        figure: apps.memory(Who::Proxy),
        detail: list(&[
            ("at the end of the case", apps.memory_at_end(Who::Proxy)),
            ("Pushgateway", apps.memory(Who::Pushgateway)),
            ("Prometheus", apps.memory(Who::Prometheus)),
        ]),
    });
    rows.push(Row {
        what: "parser, one core",
        asked: Asked::AtLeast(500.0, "MB/s"),
        figure: None,
        detail: "a micro benchmark of its own".to_owned(),
    });
    rows
}

fn scrape_rows(apps: Figures<'_>) -> Vec<Row> {
    use Change::{All, Nothing, One};
    use Coding::{Gzip, Identity};
    let ours = |change, coding| apps.time(Who::Proxy, change, coding);
    let nginx = |coding| apps.time(Who::Nginx, Nothing, coding);
    let pushgateway = |change| apps.time(Who::Pushgateway, change, Gzip);
    let yardstick = apps.0.and_then(|it| it.yardstick);
    vec![
        Row {
            what: "identity scrape, nothing changed",
            asked: Asked::AtMost(0.7, "x nginx's time"),
            figure: ratio(ours(Nothing, Identity), nginx(Identity)),
            detail: list(&[(
                "everything changed",
                ratio(ours(All, Identity), nginx(Identity)),
            )]),
        },
        Row {
            what: "gzip scrape, nothing changed",
            asked: Asked::AtMost(4.0, "x nginx's time (`gzip_static`)"),
            figure: ratio(ours(Nothing, Gzip), nginx(Gzip)),
            detail: list(&[(
                "size of the answer",
                ratio(apps.size(Who::Proxy, Gzip), apps.size(Who::Nginx, Gzip)),
            )]),
        },
        Row {
            what: "gzip scrape, nothing changed",
            asked: Asked::AtLeast(300.0, "times faster than Pushgateway"),
            figure: ratio(pushgateway(Nothing), ours(Nothing, Gzip)),
            detail: "without checks".to_owned(),
        },
        Row {
            what: "gzip scrape, everything changed",
            asked: Asked::AtLeast(25.0, "times faster than Pushgateway"),
            figure: ratio(pushgateway(All), ours(All, Gzip)),
            detail: "without checks".to_owned(),
        },
        Row {
            what: "gzip scrape, everything changed",
            asked: Asked::AtMost(0.5, "x the time of `gzip -1`"),
            figure: ratio(ours(All, Gzip), yardstick.and_then(|it| it.process)),
            detail: list(&[(
                "to `zlib-rs` at level 1",
                ratio(ours(All, Gzip), yardstick.map(|it| it.flate2)),
            )]),
        },
        Row {
            what: "gzip scrape, 1 % changed",
            asked: Asked::AtMost(2.0, "x nothing changed"),
            figure: ratio(ours(One, Gzip), ours(Nothing, Gzip)),
            detail: list(&[(
                "10 % changed",
                ratio(ours(Change::Ten, Gzip), ours(Nothing, Gzip)),
            )]),
        },
    ]
}

/// The worst of times and compressed size. Scrapes with 1 % changed are left out: how many pages
/// they touch differs between the cases.
fn small_row(apps: Figures<'_>, small: Figures<'_>) -> Row {
    let time = |change, coding| {
        ratio(
            small.time(Who::Proxy, change, coding),
            apps.time(Who::Proxy, change, coding),
        )
    };
    let each = [
        ("identity", time(Change::Nothing, Coding::Identity)),
        ("gzip", time(Change::Nothing, Coding::Gzip)),
        (
            "identity, everything changed",
            time(Change::All, Coding::Identity),
        ),
        ("gzip, everything changed", time(Change::All, Coding::Gzip)),
        (
            "compressed size",
            ratio(
                small.size(Who::Proxy, Coding::Gzip),
                apps.size(Who::Proxy, Coding::Gzip),
            ),
        ),
    ];
    let text = ratio(
        small.0.map(|it| it.text as f64),
        apps.0.map(|it| it.text as f64),
    );
    Row {
        what: "20,000 small apps, time and compressed size",
        asked: Asked::AtMost(2.0, "x 1,000 apps"),
        figure: worst(&each.map(|it| it.1)),
        detail: format!(
            "{}; the text is {}",
            list(&each),
            text.map_or("–".to_owned(), times)
        ),
    }
}

fn merged_row(merged: Figures<'_>) -> Row {
    debug_assert!(merged.0.is_none_or(|it| it.case.data.kind == Kind::Same));
    let time = |coding| {
        ratio(
            merged.time(Who::Merged, Change::Nothing, coding),
            merged.time(Who::Proxy, Change::Nothing, coding),
        )
    };
    let each = [
        ("identity", time(Coding::Identity)),
        ("gzip", time(Coding::Gzip)),
    ];
    let changed = ratio(
        merged.time(Who::Merged, Change::All, Coding::Gzip),
        merged.time(Who::Proxy, Change::All, Coding::Gzip),
    );
    let text = ratio(
        merged.size(Who::Merged, Coding::Identity),
        merged.size(Who::Proxy, Coding::Identity),
    );
    Row {
        what: "merged mode, the same families in 1,000 sections, nothing changed",
        asked: Asked::AtMost(3.0, "x verbatim"),
        figure: worst(&each.map(|it| it.1)),
        detail: format!(
            "{}; {}; the answer is {}",
            list(&each),
            list(&[("gzip, everything changed", changed)]),
            text.map_or("–".to_owned(), times)
        ),
    }
}

fn push_rows(apps: Figures<'_>) -> Vec<Row> {
    let ratio_of = |push: Option<&PushTimes>| push.map(|it| p99_ratio(&it.scraped, &it.alone));
    let steady = ratio_of(apps.push(Who::Proxy, Way::Unix, Pace::Steady));
    let full = ratio_of(apps.push(Who::Proxy, Way::Unix, Pace::Full));
    let p50 = |who, way| {
        let push = apps.push(who, way, Pace::Full)?;
        Some(percentile(push.alone.clone(), 0.5))
    };
    let ours = p50(Who::Proxy, Way::Unix);
    let mut rows = vec![Row {
        what: "push p99 with eight scrapers, once a second each",
        asked: Asked::AtMost(2.0, "x without them"),
        figure: steady,
        detail: format!(
            "200 pushes a second; {}; Pushgateway's p50 of a `PUT` is {} without checks and {} with them",
            list(&[("one after the other", full)]),
            ratio(p50(Who::Pushgateway, Way::Put), ours).map_or("–".to_owned(), times),
            ratio(p50(Who::PushgatewayChecked, Way::Put), ours).map_or("–".to_owned(), times),
        ),
    }];
    let scrapes = apps.0.and_then(|it| it.pushes.as_ref());
    let scrapes = scrapes.map_or(&[][..], |it| &it.scrapes);
    let of = |coding| {
        let scrape = scrapes
            .iter()
            .find(|it| it.who == Who::Proxy && it.coding == coding)?;
        Some(p99_ratio(&scrape.pushed, &scrape.alone))
    };
    let each = [
        ("identity", of(Coding::Identity)),
        ("gzip", of(Coding::Gzip)),
    ];
    rows.push(Row {
        what: "scrape p99 while two senders push at full speed",
        asked: Asked::AtMost(3.0, "x idle"),
        figure: worst(&each.map(|it| it.1)),
        detail: list(&each),
    });
    rows
}

/// Goals of pushes over HTTP, for the worse of the two shapes of a body.
fn gateway_rows(gateway: Option<&Gateway>) -> Vec<Row> {
    const OURS: &str = "exporter-proxy";
    const SHAPES: [&str; 2] = [
        "`PUT`, 100 series of one family",
        "`PUT`, a series each of 100 families",
    ];
    let found = |what, who| gateway.and_then(|it| it.rate(what, who));
    let rate = |what, who| found(what, who).map(Rate::median);
    let crowd = |what, who| found(what, who).map(Rate::crowd_median);
    let to = |who| {
        let each = SHAPES.map(|what| ratio(rate(what, OURS), rate(what, who)));
        let crowds = SHAPES.map(|what| ratio(crowd(what, OURS), crowd(what, who)));
        let least: Option<Vec<f64>> = each.into_iter().chain(crowds).collect();
        let least = least.and_then(|it| it.into_iter().reduce(f64::min));
        let detail = list(&[
            ("one family", each[0]),
            ("100 families", each[1]),
            ("several senders, one family", crowds[0]),
            ("several senders, 100 families", crowds[1]),
        ]);
        (least, detail)
    };
    let checked = to("Pushgateway, checks");
    let unchecked = to("Pushgateway, no checks");
    let aggregated = |series| rate(series, OURS);
    let few = aggregated("aggregated `POST`, 1,000 aggregated series");
    let many = aggregated("aggregated `POST`, 100,000 aggregated series");
    let scrapes = gateway.map_or(&[][..], |it| &it.scrapes);
    let scraped = scrapes
        .iter()
        .map(|it| Some(p99_ratio(&it.pushed, &it.alone)));
    let scraped: Vec<Option<f64>> = scraped.collect();
    let ways: Vec<String> = scrapes
        .iter()
        .map(|it| format!("{}, {}", it.what, it.coding.name()))
        .collect();
    let ways: Vec<(&str, Option<f64>)> = ways
        .iter()
        .map(String::as_str)
        .zip(scraped.iter().copied())
        .collect();
    let memory = gateway.map_or(&[][..], |it| &it.memory);
    let most = memory.iter().map(|it| it.after_scrapes).reduce(f64::max);
    vec![
        Row {
            what: "`PUT`s a second, 1,000 groups x 100 series",
            asked: Asked::AtLeast(300.0, "x Pushgateway with checks"),
            figure: checked.0,
            detail: checked.1,
        },
        Row {
            what: "`PUT`s a second, 1,000 groups x 100 series",
            asked: Asked::AtLeast(5.0, "x Pushgateway without checks"),
            figure: unchecked.0,
            detail: unchecked.1,
        },
        Row {
            what: "aggregated `POST`s a second, 100 families' series from 1,000 jobs",
            asked: Asked::AtLeast(0.5, "x the rate of `PUT`s of the same"),
            figure: ratio(many, rate(SHAPES[1], OURS)),
            detail: list(&[("to 1,000 aggregated series", ratio(many, few))]),
        },
        Row {
            what: "scrape p99 while two senders push over HTTP at full speed",
            asked: Asked::AtMost(3.0, "x idle"),
            figure: if scraped.is_empty() {
                None
            } else {
                worst(&scraped)
            },
            detail: list(&ways),
        },
        Row {
            what: "memory for each of 1,000,000 series, after scrapes of both codings",
            asked: Asked::Bytes(300.0),
            figure: most,
            detail: "the worst of four ways to hold them".to_owned(),
        },
    ]
}
