//! Watch: nothing missed, nothing twice, laggards told.

use std::time::Duration;

use hoist_store::{Class, Lost, Store, StoreError};

use crate::{Thing, event, open, thing};

fn put(store: &Store, name: &'static str, size: u64) {
    store
        .transaction(Class::Process, move |tx| {
            tx.put(thing(name, size));
            tx.event(event(1, name));
            Ok::<_, StoreError>(())
        })
        .wait()
        .unwrap();
}

#[test]
fn a_watch_from_a_snapshot_sees_everything_after_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    put(&store, "a", 1);
    let snapshot = store.snapshot();
    put(&store, "b", 2);
    put(&store, "c", 3);
    let mut watch = store.watch(Some(snapshot.revision()));
    let mut seen = Vec::new();
    while let Some(commit) = watch.try_next().unwrap() {
        assert!(commit.changes[0].is::<Thing>());
        assert_eq!(commit.events[0].action, commit.changes[0].key());
        seen.push(commit.changes[0].object::<Thing>().unwrap().size);
    }
    assert_eq!(seen, [2, 3]);
    assert!(watch.wait(Duration::from_millis(5)).unwrap().is_none());
}

#[test]
fn a_blocked_watcher_wakes_and_ends_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut watch = store.watch(None);
    let reader = std::thread::spawn(move || {
        let first = watch.wait(Duration::from_secs(30)).unwrap();
        let end = watch.wait(Duration::from_secs(30)).unwrap();
        (first.map(|c| c.revision), end.is_none())
    });
    put(&store, "a", 1);
    let revision = store.snapshot().revision();
    drop(store);
    assert_eq!(reader.join().unwrap(), (Some(revision), true));
}

#[test]
fn a_laggard_is_told_and_others_are_not_slowed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder()
        .table::<Thing>()
        .watch_ring(4)
        .open(dir.path())
        .unwrap();
    let begin = store.snapshot().revision();
    let mut watch = store.watch(None);
    for i in 0..5 {
        put(&store, "a", i);
    }
    assert_eq!(watch.try_next().unwrap_err(), Lost { after: begin });
    let mut again = store.watch(Some(store.snapshot().revision()));
    assert!(again.try_next().unwrap().is_none());
}

#[test]
fn a_removal_is_seen_without_an_object() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    put(&store, "a", 1);
    let mut watch = store.watch(None);
    store
        .transaction(Class::Disk, |tx| {
            tx.delete::<Thing>("a");
            Ok::<_, StoreError>(())
        })
        .wait()
        .unwrap();
    let commit = watch.try_next().unwrap().unwrap();
    assert!(commit.changes[0].object::<Thing>().is_none());
    assert_eq!(commit.changes[0].key(), "a");
}
