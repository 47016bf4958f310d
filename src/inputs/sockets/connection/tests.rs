use std::hash::RandomState;

use super::*;
use crate::config::settle;
use crate::fairness::Fairness;
use crate::ingest::Admission;
use crate::net::{BlockingPool, MemoryBudget, Permits};
use crate::peer::{Peer, Sender};
use crate::registry::RegistryLimits;
use crate::security::{Access, Web};
use crate::store::{Store, StoreLimits};

/// A listener whose store is held by a large write.
fn busy_service() -> Service {
    let config = settle("test", "", []).unwrap().0;
    let limits = StoreLimits {
        apps: 1,
        groups: 1,
        bytes: 1 << 20,
        registry: RegistryLimits::default(),
    };
    let store = Store::new(limits, false);
    store.set_busy(true);
    let (exposition, aggregation) = (config.exposition, config.push.aggregation);
    Service {
        config: Arc::new(config.receiver),
        admission: Arc::new(Admission::new(
            exposition,
            aggregation,
            false,
            RandomState::new(),
        )),
        store: Arc::new(store),
        access: Arc::new(Access::new(&Web::default(), &Arc::default()).unwrap()),
        fairness: Arc::new(Fairness::unlimited()),
        stats: Arc::default(),
        budget: Arc::new(MemoryBudget::new(1 << 20, Arc::default())),
        pool: BlockingPool::new(1),
        source: Arc::from("test"),
        stop: tokio_util::sync::CancellationToken::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_large_write() {
    let service = busy_service();
    let stop = service.stop.clone();
    let caller = Caller {
        listener: ListenerKind::Receiver,
        peer: Peer::Unknown,
        gid: None,
        identity: None,
    };
    let mut session = Session::new(Live::new(service), caller);
    let permits = Permits::new(1, Arc::default());
    let permit = permits.assign(Sender::Unknown, permits.try_acquire().unwrap());
    let (_client, mut stream) = tokio::io::duplex(64);
    let begun = Instant::now();
    let end = async {
        sleep(BUSY_CHECK_INTERVAL * 10).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(session.run(&mut stream, permit.progress()), end);
    ended.unwrap();
    assert_eq!(begun.elapsed(), BUSY_CHECK_INTERVAL * 10);
}
