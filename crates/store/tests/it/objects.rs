//! Transactions, snapshots, classes and events.

use std::time::Duration;

use hoist_model::{Revision, Timestamp};
use hoist_store::{Class, Store, StoreError};

use crate::{Thing, event, open, thing};

#[test]
fn what_is_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for (class, name) in [(Class::Disk, "a"), (Class::Process, "b")] {
        store
            .transaction(class, move |tx| {
                tx.put(thing(name, 1));
                Ok::<_, StoreError>(())
            })
            .wait()
            .unwrap();
    }
    let before = store.snapshot();
    drop(store);
    let after = open(dir.path()).unwrap().snapshot();
    assert_eq!(before.list::<Thing>(), after.list::<Thing>());
    assert!(after.revision() >= before.revision());
}

#[test]
fn a_transaction_reads_its_own_writes_and_a_snapshot_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let empty = store.snapshot();
    let seen = store
        .transaction(Class::Process, |tx| {
            tx.put(thing("a", 1));
            tx.put(thing("a", 2));
            tx.put(thing("b", 3));
            let deleted = tx.delete::<Thing>("b") && !tx.delete::<Thing>("never");
            Ok::<_, StoreError>((tx.get::<Thing>("a").map(|t| t.size), deleted))
        })
        .wait()
        .unwrap();
    assert_eq!(seen.value, (Some(2), true));
    assert_eq!(empty.count::<Thing>(), 0);
    let full = store.snapshot();
    assert_eq!(full.revision(), seen.revision);
    assert_eq!(full.list::<Thing>(), [thing("a", 2)]);
}

#[test]
fn a_refusal_and_a_panic_leave_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let before = store.snapshot().revision();
    let refused = store
        .transaction(Class::Disk, |tx| {
            tx.put(thing("a", 1));
            Err::<(), _>(StoreError::Closed)
        })
        .wait();
    assert!(matches!(refused, Err(StoreError::Closed)));
    let panicked = store
        .transaction::<(), StoreError, _>(Class::Disk, |tx| {
            tx.put(thing("a", 1));
            panic!("boom")
        })
        .wait();
    assert!(matches!(panicked, Err(StoreError::Panicked { detail }) if detail == "boom"));
    assert_eq!(store.snapshot().revision(), before);
    assert_eq!(store.snapshot().count::<Thing>(), 0);
}

#[test]
fn a_transaction_can_be_awaited_without_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut pending = std::pin::pin!(store.transaction(Class::Disk, |tx| {
        tx.put(thing("a", 1));
        Ok::<_, StoreError>(7)
    }));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let committed = loop {
        if let std::task::Poll::Ready(done) = pending.as_mut().poll(&mut context) {
            break done.unwrap();
        }
        std::thread::yield_now();
    };
    assert_eq!(committed.value, 7);
}

#[test]
fn one_container_life_costs_two_syncs_and_a_group_shares_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let run = |class, name: &'static str, size| {
        store.transaction(class, move |tx| {
            tx.put(thing(name, size));
            Ok::<_, StoreError>(())
        })
    };
    run(Class::Disk, "create", 0).wait().unwrap();
    run(Class::Process, "start", 1).wait().unwrap();
    run(Class::Process, "exit", 2).wait().unwrap();
    run(Class::Disk, "remove", 3).wait().unwrap();
    assert_eq!(store.statistics().syncs, 2);

    // While the writer is held up, fifty creates queue; they share one group.
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let held = store.transaction(Class::Disk, move |_| {
        let _ = gate.recv();
        Ok::<_, StoreError>(())
    });
    let queued: Vec<_> = (0..50).map(|i| run(Class::Disk, "n", i)).collect();
    go.send(()).unwrap();
    held.wait().unwrap();
    for pending in queued {
        pending.wait().unwrap();
    }
    assert!(store.statistics().syncs <= 4, "{:?}", store.statistics());
}

#[test]
fn unsynced_transactions_run_where_they_come_from_but_never_out_of_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let here = std::thread::current().id();
    let size_and_thread = |class| {
        store.transaction(class, |tx| {
            let size = tx.get::<Thing>("a").map_or(0, |thing| thing.size);
            tx.put(thing("a", size + 1));
            Ok::<_, StoreError>((size, std::thread::current().id()))
        })
    };
    let first = size_and_thread(Class::Process).wait().unwrap().value;
    assert_eq!(first, (0, here));
    let second = size_and_thread(Class::Disk).wait().unwrap().value;
    assert_eq!(second.0, 1);
    assert_ne!(second.1, here);

    // Behind one that waits, everything queues.
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let held = store.transaction(Class::Disk, move |_| {
        let _ = gate.recv();
        Ok::<_, StoreError>(())
    });
    let third = size_and_thread(Class::Process);
    let fourth = size_and_thread(Class::Disk);
    let fifth = size_and_thread(Class::Process);
    go.send(()).unwrap();
    held.wait().unwrap();
    let later = [third, fourth, fifth].map(|pending| pending.wait().unwrap().value);
    assert_eq!(later.map(|(size, _)| size), [2, 3, 4]);
    assert!(later.iter().all(|(_, thread)| *thread != here));
}

#[test]
fn many_threads_lose_no_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store
        .transaction(Class::Disk, |tx| {
            tx.put(thing("a", 0));
            Ok::<_, StoreError>(())
        })
        .wait()
        .unwrap();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..100 {
                    let class = if (round + number) % 5 == 0 {
                        Class::Disk
                    } else {
                        Class::Process
                    };
                    let add = store.transaction(class, |tx| {
                        let size = tx.get::<Thing>("a").unwrap().size;
                        tx.put(thing("a", size + 1));
                        Ok::<_, StoreError>(())
                    });
                    add.wait().unwrap();
                }
            });
        }
    });
    assert_eq!(store.snapshot().get::<Thing>("a").unwrap().size, 400);
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.snapshot().get::<Thing>("a").unwrap().size, 400);
}

#[test]
fn an_unsynced_commit_is_synced_soon() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store
        .transaction(Class::Process, |tx| {
            tx.put(thing("a", 1));
            Ok::<_, StoreError>(())
        })
        .wait()
        .unwrap();
    assert_eq!(store.statistics().syncs, 0);
    let begun = std::time::Instant::now();
    while store.statistics().idle_syncs == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "never synced");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn events_are_found_by_time_and_pruned_by_count_and_age() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder()
        .table::<Thing>()
        .keep_events(20, Duration::from_secs(1000))
        .open(dir.path())
        .unwrap();
    let tell = |at, action: &'static str| {
        store
            .transaction(Class::Process, move |tx| {
                tx.event(event(at, action));
                tx.event(event(at, "again"));
                Ok::<_, StoreError>(())
            })
            .wait()
            .unwrap()
            .revision
    };
    let first = tell(1, "create");
    tell(2, "start");
    let at = |from: i64, to: i64| {
        let stamp = Timestamp::from_seconds;
        let found = store.events(Some(stamp(from)), Some(stamp(to)));
        found.wait().unwrap().value
    };
    assert_eq!(
        at(1, 1),
        [(first, event(1, "create")), (first, event(1, "again"))]
    );
    assert_eq!(at(2, 9).len(), 2);
    for i in 0..40 {
        tell(2000 + i, "die");
    }
    let left = store.events(None, None).wait().unwrap();
    assert!(left.value.len() <= 20 + 20 / 8 + 18, "{}", left.value.len());
    assert!(at(0, 10).is_empty());
    assert_eq!(left.revision, store.snapshot().revision());
    assert_eq!(left.value.last().unwrap().0, left.revision);
}

#[test]
fn no_revision_is_issued_twice_over_many_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = Revision(0);
    for _ in 0..3 {
        let store = open(dir.path()).unwrap();
        for _ in 0..5000 / 3 {
            let pending = store.transaction(Class::Process, |tx| {
                tx.put(thing("a", 1));
                Ok::<_, StoreError>(())
            });
            let revision = pending.wait().unwrap().revision;
            assert!(revision > last);
            last = revision;
        }
    }
}
