//! Targets that are found in DNS.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::thread;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};

use crate::discovery::{exporter, listed, polls, value};
use crate::harness::{PATIENCE, Proxy, eventually};
use crate::reload::reload;
use crate::support::{names, text_of};

/// A DNS server with these records. It runs until the test ends.
struct Dns {
    address: String,
    records: Arc<Mutex<Vec<(&'static str, RData)>>>,
}

impl Dns {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE * 4)).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let records = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&records);
        thread::spawn(move || {
            let mut request = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut request) {
                let request = Message::from_vec(&request[..length]).expect("a request");
                let answer = answer(&request, &known.lock().unwrap());
                if let Some(answer) = answer {
                    socket.send_to(&answer.to_vec().unwrap(), client).unwrap();
                }
            }
        });
        Dns { address, records }
    }

    fn set(&self, records: Vec<(&'static str, RData)>) {
        *self.records.lock().unwrap() = records;
    }
}

/// The answer to a request; none for `silent.test`, and an error for `broken.test`.
fn answer(request: &Message, records: &[(&str, RData)]) -> Option<Message> {
    let query = request.queries[0].clone();
    let name = query.name().to_ascii();
    let mut answer = Message::response(request.id, request.op_code);
    answer.add_query(query.clone());
    match name.trim_end_matches('.') {
        "silent.test" => return None,
        "broken.test" => answer.metadata.response_code = ResponseCode::ServFail,
        name => {
            let found = records
                .iter()
                .filter(|(other, data)| *other == name && data.record_type() == query.query_type());
            for (_, data) in found {
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, data.clone()));
            }
            if records.iter().all(|(other, _)| *other != name) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
        }
    }
    Some(answer)
}

#[test]
fn names_are_looked_up_again_and_again() {
    let upstream = exporter();
    let port = upstream.address.rsplit_once(':').unwrap().1.to_owned();
    let dns = Dns::start();
    let service = |host: &str, port: &str| {
        let host = Name::from_ascii(host).unwrap();
        RData::SRV(SRV::new(1, 1, port.parse().unwrap(), host))
    };
    dns.set(vec![
        ("_m._tcp.test", service("127.0.0.1.", &port)),
        ("four.test", RData::A(A::new(127, 0, 0, 1))),
        ("six.test", RData::AAAA(AAAA::new(0, 0, 0, 0, 0, 0, 0, 1))),
    ]);
    let entry = |settings: &str| {
        format!(
            "[[poll_external.dns_sd]]\nserver = \"{}\"\nrefresh_interval = \"50ms\"\n{settings}\n",
            dns.address
        )
    };
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_interval = \"1h\"\nclient_timeout = \"30s\"\n{}{}{}",
        entry("names = [\"_m._tcp.test\", \"missing.test\"]"),
        entry(&format!(
            "names = [\"four.test.\"]\ntype = \"A\"\nport = {port}\n\
             targets = {{ metrics_path = \"/four\", labels = {{ dns = \"four\" }} }}"
        )),
        entry(&format!(
            "names = [\"six.test\"]\ntype = \"AAAA\"\nport = {port}\ntargets = {{ scheme = \"https\" }}"
        )),
    ));
    let (srv, four) = (
        format!("127.0.0.1:{port}"),
        format!("127.0.0.1:{port}/four"),
    );
    let six = format!("https://[::1]:{port}");
    eventually(|| names(&proxy), |names| *names == [&*srv, &*four, &*six]);
    let expected = format!("m{{dns=\"four\",instance=\"127.0.0.1:{port}\",path=\"/four\"}} 1\n");
    eventually(
        || text_of(&proxy, &four),
        |text| text.as_deref() == Some(&*expected),
    );
    let polled = eventually(|| polls(&proxy, &srv), |polls| *polls == 1.0);

    // A name that does not exist has no targets.
    dns.set(vec![
        ("_m._tcp.test", service("127.0.0.1.", &port)),
        ("four.test", RData::A(A::new(127, 0, 0, 1))),
        ("four.test", RData::A(A::new(127, 0, 0, 2))),
    ]);
    let second = format!("127.0.0.2:{port}/four");
    eventually(
        || names(&proxy),
        |names| *names == [&*srv, &*four, &*second],
    );
    assert_eq!(polls(&proxy, &srv), polled);
}

#[test]
fn a_name_that_cannot_be_looked_up_keeps_its_targets() {
    let dns = Dns::start();
    let address = RData::A(A::new(127, 0, 0, 1));
    dns.set(vec![("a.test", address)]);
    let config = |server: &str| {
        format!(
            "[[poll_external.dns_sd]]\nnames = [\"a.test\", \"broken.test\"]\ntype = \"A\"\nport = 1\n\
             server = \"{server}\"\nrefresh_interval = \"50ms\"\n",
        )
    };
    let proxy = Proxy::start(&config(&dns.address));
    eventually(|| names(&proxy), |names| *names == ["127.0.0.1:1"]);
    let failed = "exporter_proxy_discovery_updates_total{discovery=\"dns_sd[0]\",result=\"dns\"}";
    eventually(|| value(&proxy, failed), |count| *count >= 2.0);
    let (_, discoveries) = listed(&proxy);
    let reason = discoveries[0]["lastProblem"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("broken.test: "), "{reason}");
    assert_eq!(discoveries[0]["targets"], 1);

    // With a server that does not answer, the targets stay, too.
    reload(&proxy, &config("127.0.0.1:1"));
    eventually(|| value(&proxy, failed), |count| *count >= 1.0);
    assert_eq!(names(&proxy), ["127.0.0.1:1"]);
}
