//! The file: its golden form, and what is refused.

use expect_test::expect;
use hoist_store::{Class, StoreError};

use crate::{Thing, event, open, thing};

/// Format 1, written once by the first version and never again: every later version reads it.
const GOLDEN_1: &[u8] = include_bytes!("golden/format-1.db");

#[test]
fn format_1_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state.db"), GOLDEN_1).unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(
        store.snapshot().list::<Thing>(),
        [thing("data", 7), thing("web", 42)]
    );
    let events = store.events(None, None).wait().unwrap().value;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1, event(1, "create"));
    assert!(store.snapshot().revision() > events[0].0);
}

/// Makes the golden file of the current format when `HOIST_STORE_GOLDEN` names where to put it.
#[test]
fn a_new_store_has_the_documented_schema() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store
        .transaction(Class::Disk, |tx| {
            tx.put(thing("web", 42));
            tx.put(thing("data", 7));
            tx.event(event(1, "create"));
            Ok::<_, StoreError>(())
        })
        .wait()
        .unwrap();
    drop(store);
    let file = dir.path().join("state.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    let mut schema = String::new();
    let mut statement = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap();
    let names = statement.query_map([], |r| r.get::<_, String>(0)).unwrap();
    for name in names.map(Result::unwrap) {
        schema += &format!("{name}:");
        let mut columns = connection
            .prepare(&format!(
                "SELECT name, type FROM pragma_table_info('{name}')"
            ))
            .unwrap();
        let columns = columns
            .query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?)))
            .unwrap();
        for (column, kind) in columns.map(Result::unwrap) {
            schema += &format!(" {column} {kind}");
        }
        schema += "\n";
    }
    let documents: Vec<String> = connection
        .prepare("SELECT document FROM objects UNION ALL SELECT document FROM events")
        .unwrap()
        .query_map([], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    expect![[r#"
        events: revision INTEGER sequence INTEGER at INTEGER document TEXT
        meta: name TEXT value INTEGER
        objects: kind TEXT key TEXT revision INTEGER document TEXT
        {"name":"data","size":7}
        {"name":"web","size":42}
        {"at":1000000000,"kind":"container","action":"create","actor":"c","attributes":{"name":"web"}}
    "#]].assert_eq(&format!("{schema}{}\n", documents.join("\n")));
    drop(statement);
    drop(connection);
    if let Some(golden) = std::env::var_os("HOIST_STORE_GOLDEN") {
        std::fs::copy(file, golden).unwrap();
    }
}

fn refusal(change: impl FnOnce(&rusqlite::Connection)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.db");
    std::fs::write(&file, GOLDEN_1).unwrap();
    let connection = rusqlite::Connection::open(&file).unwrap();
    change(&connection);
    drop(connection);
    let error = open(dir.path()).unwrap_err().to_string();
    error.replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn what_is_not_ours_is_refused_and_named() {
    expect!["the store DIR/state.db has format 2; this hoist reads up to 1: use a newer hoist"]
        .assert_eq(&refusal(|c| {
            c.execute_batch("PRAGMA user_version = 2").unwrap()
        }));
    expect!["the store DIR/state.db is damaged: it is the database of another program"].assert_eq(
        &refusal(|c| c.execute_batch("PRAGMA application_id = 5").unwrap()),
    );
    expect![[r#"the object "web" of table things cannot be read: EOF while parsing a value at line 1 column 8"#]].assert_eq(&refusal(|c| {
        c.execute_batch("UPDATE objects SET document = '{\"name\":' WHERE key = 'web'")
            .unwrap();
    }));
}

#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.db");
    for (from, to) in [(0, 100), (4096, 8192)] {
        let mut bytes = GOLDEN_1.to_vec();
        bytes[from..to].fill(0xff);
        std::fs::write(&file, bytes).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("state.db"), "{error}");
    }
    std::fs::write(&file, &GOLDEN_1[..5000]).unwrap();
    assert!(open(dir.path()).is_err());
}

#[test]
fn a_second_engine_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
}
