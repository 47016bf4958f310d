//! The guarantees in `docs/sinks.md`, and the tests that check each.

use std::collections::BTreeSet;

/// The first cell of each line in the tables of guarantees, and the tests for it.
const GUARANTEES: [(&str, &[&str]); 15] = [
    (
        "`loki`",
        &[
            "events_arrive_whole_and_in_order",
            "events_with_equal_labels_are_one_stream_in_their_order",
            "nothing_is_lost_while_a_server_is_away_for_long",
        ],
    ),
    (
        "`opensearch`",
        &[
            "documents_keep_their_identity_and_get_a_verdict_each",
            "documents_reach_a_server_that_is_restarted_once",
        ],
    ),
    (
        "`cql`",
        &[
            "raw_values_reach_cassandra",
            "a_node_is_restarted_under_load",
            "raw_values_wait_for_a_cluster_that_is_away",
        ],
    ),
    (
        "`remote_write`",
        &[
            "failures_are_repeated_in_order",
            "samples_wait_for_a_server_that_is_away",
        ],
    ),
    (
        "`operations` over TCP",
        &[
            "a_line_that_was_cut_by_a_broken_connection_is_sent_again",
            "a_sink_connects_again_after_the_receiver_closed_the_connection",
        ],
    ),
    (
        "`operations` over UDP",
        &[
            "a_datagram_holds_one_line_without_its_newline",
            "a_datagram_that_an_earlier_error_kept_back_is_sent_again",
        ],
    ),
    (
        "the other system is away, busy or slow",
        &[
            "events_wait_for_a_server_that_is_away_and_come_once",
            "a_busy_server_is_asked_again_when_it_says",
            "a_slow_sink_delays_neither_senders_nor_another_sink",
        ],
    ),
    (
        "the queue is full",
        &[
            "a_full_queue_rejects_events_and_names_the_setting",
            "what_a_full_queue_accepted_arrives",
        ],
    ),
    (
        "items are older than `max_age`",
        &[
            "events_that_wait_too_long_are_dropped_and_counted",
            "the_time_in_storage_counts_for_the_age",
        ],
    ),
    (
        "the other system refuses an item permanently",
        &["a_refused_event_is_counted_and_does_not_spoil_others"],
    ),
    (
        "a reload changes a sink",
        &["sinks_come_change_and_go_without_losing_items"],
    ),
    (
        "a reload removes a sink",
        &[
            "what_a_removed_sink_cannot_send_is_dropped_and_logged",
            "what_a_removed_sink_cannot_send_stays_in_storage",
            "items_of_a_sink_that_is_not_configured_are_kept_for_a_week",
        ],
    ),
    (
        "a stop",
        &[
            "what_waits_at_shutdown_is_sent_or_logged",
            "what_was_not_sent_at_a_stop_is_sent_after_the_next_start",
        ],
    ),
    (
        "`kill -9`",
        &[
            "what_waits_survives_kill_9_in_its_order",
            "a_restart_finds_what_was_live_at_the_last_flush",
            "documents_that_are_sent_again_after_a_kill_have_the_same_identity",
        ],
    ),
    (
        "a loss of power",
        &["after_a_failed_sync_what_was_written_before_is_written_again"],
    ),
];

/// The sources of these tests.
const SOURCES: [&str; 12] = [
    include_str!("sinks_events.rs"),
    include_str!("sinks_reload.rs"),
    include_str!("sinks_raw.rs"),
    include_str!("sinks_remote_write.rs"),
    include_str!("../sinks/cql.rs"),
    include_str!("sinks_stored.rs"),
    include_str!("../sinks/opensearch.rs"),
    include_str!("../sinks/victoria_logs.rs"),
    include_str!("../../src/outputs/sinks/loki/tests.rs"),
    include_str!("../../src/outputs/sinks/operations/tests.rs"),
    include_str!("../../src/outputs/sinks/queue/stored_tests.rs"),
    include_str!("../../src/storage/tests/mod.rs"),
];

#[test]
fn every_guarantee_has_a_test() {
    let document = include_str!("../../docs/sinks.md");
    let (_, section) = document.split_once("\n## Guarantees\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let cells = section.lines().filter_map(|line| {
        let cell = line.strip_prefix("| ")?.split(" | ").next()?;
        let is_head = ["Type", "Event"].contains(&cell) || cell.starts_with('-');
        (!is_head).then_some(cell)
    });
    let listed: BTreeSet<&str> = cells.collect();
    let held: BTreeSet<&str> = GUARANTEES.iter().map(|(cell, _)| *cell).collect();
    assert_eq!(listed, held);
    for (cell, tests) in GUARANTEES {
        for name in tests {
            let is_test = |source: &&str| source.contains(&format!("fn {name}("));
            assert!(SOURCES.iter().any(is_test), "{cell}: {name}");
        }
    }
}
