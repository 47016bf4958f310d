//! OpenMetrics, read by its strictest parser: `prometheus_client`'s rejects a whole page for one
//! line that the specification does not allow.

use serde_json::json;

use crate::harness::Proxy;
use crate::tools::{self, Tool, command, run_with};

/// Prints each family and its samples.
const STRICT: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families

for family in text_string_to_metric_families(sys.stdin.read()):
    print('family', family.name, family.type, family.unit or '-')
    for sample in family.samples:
        labels = ','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))
        time = '-' if sample.timestamp is None else float(sample.timestamp)
        print(sample.name, labels, float(sample.value), time)
";

const OPEN: &str = "# TYPE build info\nbuild_info{version=\"1\"} 1\n\
    # HELP c_seconds Say \\\"hi\\\".\n# TYPE c_seconds counter\n# UNIT c_seconds seconds\nc_seconds_total 5\nc_seconds_created 1\n\
    # TYPE g_volts gaugehistogram\n# UNIT g_volts volts\ng_volts_bucket{le=\"1.0\"} 1\ng_volts_bucket{le=\"+Inf\"} 3\ng_volts_gcount 3\ng_volts_gsum 2\n\
    # TYPE points gauge\npoints 1 1.5\npoints 2 2.5\n\
    # TYPE s stateset\ns{s=\"off\"} 0\ns{s=\"on\"} 1\n# TYPE u_bytes unknown\n# UNIT u_bytes bytes\nu_bytes 1\n# EOF\n";

const TEXT: &str = "# HELP hits_total Pages \\\\ \"shown\".\n# TYPE hits_total counter\nhits_total{page=\"/\"} 3\n\
    # TYPE old counter\nold 1\n\
    # TYPE t_seconds histogram\nt_seconds_bucket{le=\"1\"} 1\nt_seconds_bucket{le=\"+Inf\"} 2\nt_seconds_sum 3\nt_seconds_count 2\n\
    # TYPE q summary\nq{quantile=\"0.5\"} 1\nq_sum 1\nq_count 1\n\
    # TYPE \"my.metric\" gauge\n{\"my.metric\",\"a label\"=\"1\"} 1\nuntyped 7\n";

#[test]
fn the_strict_parser_reads_all_that_is_pushed_under_every_scheme() {
    if !tools::here(&[Tool::PrometheusClient]) {
        return;
    }
    let proxy = Proxy::start("[exposition]\nmode = \"merged\"\napp_label = \"app\"\n");
    for app in ["a", "b"] {
        let document = json!({ app: OPEN, format!("{app}-text"): TEXT });
        assert_eq!(proxy.push_tcp(document.to_string().as_bytes()), "");
    }
    let group = "# TYPE group_hits_total counter\ngroup_hits_total 3\n\
                 # TYPE group_seconds histogram\ngroup_seconds_bucket{le=\"1\"} 1\ngroup_seconds_count 2\n\
                 # TYPE \"group.metric\" gauge\n{\"group.metric\"} 1\n";
    let answer = proxy.push("PUT", "/metrics/job/j", group);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = proxy.push(
        "POST",
        "/metrics/zone/z?mode=aggregate",
        "# TYPE added_total counter\nadded_total 2\n",
    );
    assert_eq!(answer.status, 202, "{}", answer.text());

    for (escaping, name, label) in [
        ("allow-utf-8", "my.metric", "a label"),
        ("underscores", "my_metric", "a_label"),
        ("dots", "my_dot_metric", "a__label"),
        ("values", "U__my_2e_metric", "U__a_20_label"),
    ] {
        let accept = format!("application/openmetrics-text;version=1.0.0;escaping={escaping}");
        let page = proxy
            .request("GET", "/metrics", &[("Accept", &accept)])
            .text();
        assert!(page.ends_with("# EOF\n"), "{page}");
        let mut parser = command(Tool::PrometheusClient);
        let printed = run_with(parser.args(["-c", STRICT]), page.as_bytes()).stdout;
        for line in [
            "family build info -".to_owned(),
            "build_info app=a,version=1 1.0 -".to_owned(),
            "family c_seconds counter seconds".to_owned(),
            "c_seconds_total app=b 5.0 -".to_owned(),
            "family g_volts gaugehistogram volts".to_owned(),
            "g_volts_gsum app=b 2.0 -".to_owned(),
            "family points gauge -".to_owned(),
            "points app=a 1.0 1.5".to_owned(),
            "points app=a 2.0 2.5".to_owned(),
            "family s stateset -".to_owned(),
            "family u_bytes unknown bytes".to_owned(),
            "family hits counter -".to_owned(),
            "family old unknown -".to_owned(),
            "family t_seconds histogram -".to_owned(),
            "family q summary -".to_owned(),
            "family added counter -".to_owned(),
            "family group_hits counter -".to_owned(),
            "family group_seconds histogram -".to_owned(),
            format!("family {name} gauge -"),
            format!("{name} {label}=1,app=a-text 1.0 -"),
        ] {
            // The program prints labels sorted by name.
            let swapped = line.replace(
                &format!("{label}=1,app=a-text"),
                &format!("app=a-text,{label}=1"),
            );
            let found = printed
                .lines()
                .any(|printed| printed == line || printed == swapped);
            assert!(found, "{escaping}: no {line:?} in\n{printed}");
        }
    }
}
