//! The senders' messages of each round: metrics of a small shop, which change from round to round
//! and follow from the seed.

use std::fmt::Write as _;

use fastrand::Rng;
use serde_json::json;

/// The programs of the shop, each with its own input of the proxy.
#[derive(Debug)]
pub struct Shop {
    rng: Rng,
    shipments: [u64; 2],
    letters: u64,
}

/// Names of carriers, in the order of their counters.
const CARRIERS: [&str; 2] = ["bike", "train"];

/// One message for each input.
#[derive(Debug)]
pub struct Round {
    /// The warehouse, a long-running app, as a Cap'n Proto message.
    pub warehouse: Vec<u8>,
    /// The post office, a long-running app, as a JSON document.
    pub post_office: Vec<u8>,
    /// A report that runs as a batch job, as the body of a push.
    pub report: String,
    /// One checkout in a function, as the body of an aggregated push.
    pub checkout: String,
    /// Views of pages, as StatsD lines.
    pub pages: String,
    /// Logins, as operations in JSON.
    pub logins: String,
}

impl Shop {
    /// A shop that has just opened.
    pub fn new(rng: Rng) -> Self {
        Shop {
            rng,
            shipments: [0; 2],
            letters: 0,
        }
    }

    /// The messages of the next round. `now` is in seconds since 1970.
    pub fn next_round(&mut self, now: f64) -> Round {
        Round {
            warehouse: capnp_message("warehouse", &self.warehouse()),
            post_office: json!({ "post_office": self.post_office() })
                .to_string()
                .into_bytes(),
            report: self.report(now),
            checkout: self.checkout(),
            pages: self.pages(),
            logins: self.logins(),
        }
    }

    fn warehouse(&mut self) -> String {
        let mut text = String::from(
            "# HELP warehouse_stock_items Items in stock, by product.\n\
             # TYPE warehouse_stock_items gauge\n",
        );
        for product in ["coffee", "tea"] {
            let stock = self.rng.u64(20..120);
            let _ = writeln!(
                text,
                "warehouse_stock_items{{product=\"{product}\"}} {stock}"
            );
        }
        text.push_str(
            "# HELP warehouse_shipments_total Parcels shipped, by carrier.\n\
             # TYPE warehouse_shipments_total counter\n",
        );
        for (carrier, shipped) in CARRIERS.into_iter().zip(&mut self.shipments) {
            *shipped += self.rng.u64(1..5);
            let _ = writeln!(
                text,
                "warehouse_shipments_total{{carrier=\"{carrier}\"}} {shipped}"
            );
        }
        text
    }

    fn post_office(&mut self) -> String {
        self.letters += self.rng.u64(1..10);
        let (letters, waiting) = (self.letters, self.rng.u64(..30));
        format!(
            "# HELP post_office_letters_total Letters sent.\n\
             # TYPE post_office_letters_total counter\n\
             post_office_letters_total {letters}\n\
             # HELP post_office_waiting_letters Letters that wait.\n\
             # TYPE post_office_waiting_letters gauge\n\
             post_office_waiting_letters {waiting}\n"
        )
    }

    fn report(&mut self, now: f64) -> String {
        let (rows, seconds) = (self.rng.u64(900..1100), self.rng.f64() * 3.0);
        format!(
            "# HELP report_rows Rows of the last report.\n\
             # TYPE report_rows gauge\n\
             report_rows {rows}\n\
             # HELP report_duration_seconds How long the last report took.\n\
             # TYPE report_duration_seconds gauge\n\
             report_duration_seconds {seconds:.3}\n\
             # HELP report_last_success_timestamp_seconds When the last report was made.\n\
             # TYPE report_last_success_timestamp_seconds gauge\n\
             report_last_success_timestamp_seconds {now:.3}\n"
        )
    }

    fn checkout(&mut self) -> String {
        let country = ["at", "ch", "de"][self.rng.usize(..3)];
        let amount = self.rng.u64(5..200);
        let bucket = |bound: u64| u64::from(amount <= bound);
        format!(
            "# HELP checkout_orders_total Orders, by country.\n\
             # TYPE checkout_orders_total counter\n\
             checkout_orders_total{{country=\"{country}\"}} 1\n\
             # HELP checkout_amount_francs Amounts of orders.\n\
             # TYPE checkout_amount_francs histogram\n\
             checkout_amount_francs_bucket{{le=\"20\"}} {}\n\
             checkout_amount_francs_bucket{{le=\"50\"}} {}\n\
             checkout_amount_francs_bucket{{le=\"100\"}} {}\n\
             checkout_amount_francs_bucket{{le=\"+Inf\"}} 1\n\
             checkout_amount_francs_sum {amount}\n\
             checkout_amount_francs_count 1\n",
            bucket(20),
            bucket(50),
            bucket(100)
        )
    }

    fn pages(&mut self) -> String {
        let page = ["basket", "home", "search"][self.rng.usize(..3)];
        let (views, millis) = (self.rng.u64(1..4), self.rng.u64(20..800));
        format!("page_views_total:{views}|c|#page:{page}\npage_render_seconds:{millis}|ms\n")
    }

    fn logins(&mut self) -> String {
        let way = ["passkey", "password"][self.rng.usize(..2)];
        let sessions = self.rng.u64(50..80);
        let login = json!({
            "name": "logins_total", "op": "inc", "value": 1, "labels": { "way": way },
            "help": "Logins, by way.",
        });
        let open = json!({
            "name": "open_sessions", "op": "set", "value": sessions, "help": "Open sessions.",
        });
        format!("{login}\n{open}\n")
    }
}

/// A message of `schema/metric_data.capnp` in one segment: a frame, a pointer to a struct
/// of two pointers, and the two texts, each ended by NUL and filled up to whole words.
fn capnp_message(app: &str, text: &str) -> Vec<u8> {
    const STRUCT_OF_TWO_POINTERS: u32 = 2 << 16;
    let words = |text: &str| (text.len() + 1).div_ceil(8) as u32;
    let list_of_bytes =
        |offset: u32, text: &str| [offset << 2 | 1, (text.len() as u32 + 1) << 3 | 2];
    let mut message = Vec::new();
    let head = [
        [0, 3 + words(app) + words(text)],
        [0, STRUCT_OF_TWO_POINTERS],
        list_of_bytes(1, app),
        list_of_bytes(words(app), text),
    ];
    for half in head.as_flattened() {
        message.extend_from_slice(&half.to_le_bytes());
    }
    for text in [app, text] {
        let end = message.len() + 8 * words(text) as usize;
        message.extend_from_slice(text.as_bytes());
        message.resize(end, 0);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_the_seed_and_counters_grow() {
        let rounds = |seed| -> Vec<Round> {
            let mut shop = Shop::new(Rng::with_seed(seed));
            (0..5)
                .map(|round| shop.next_round(f64::from(round)))
                .collect()
        };
        let (one, other) = (rounds(1), rounds(1));
        let letters = |round: &Round| -> u64 {
            let document: serde_json::Value = serde_json::from_slice(&round.post_office).unwrap();
            let text = document["post_office"].as_str().unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with("post_office_letters_total "));
            line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        for (first, second) in one.iter().zip(&other) {
            assert_eq!(first.pages, second.pages);
            assert_eq!(first.warehouse, second.warehouse);
        }
        assert!(
            one.windows(2)
                .all(|pair| letters(&pair[0]) < letters(&pair[1]))
        );
    }

    #[test]
    fn messages_are_whole_words_with_their_texts() {
        let message = capnp_message("ab", "sevenly");
        assert_eq!(message.len(), 8 * 6);
        assert_eq!(message[..8], [0, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(&message[32..35], b"ab\0");
        assert_eq!(&message[40..48], b"sevenly\0");
    }
}
