//! A data root whose store is gone: what is there would look like leftovers of nobody, and be deleted.

use std::fs;
use std::path::Path;

use anyhow::bail;

/// Refuses a data root that holds containers or volumes and has no store, or an empty one.
pub(crate) fn refuse(data_root: &Path) -> anyhow::Result<()> {
    let store = data_root.join("store/state.db");
    let has_bytes = |path: &Path| fs::metadata(path).is_ok_and(|file| file.len() > 0);
    if has_bytes(&store) || has_bytes(&store.with_extension("db-wal")) {
        return Ok(());
    }
    for name in ["containers", "volumes"] {
        let directory = data_root.join(name);
        let first = fs::read_dir(&directory).ok().and_then(|mut all| all.next());
        if first.is_some() {
            bail!(
                "the store {} is missing or empty, and {} is not: put the store back, or move what is there away to begin anew",
                store.display(),
                directory.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_be_lost_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert!(refuse(root).is_ok());
        fs::create_dir_all(root.join("containers")).unwrap();
        fs::create_dir_all(root.join("store")).unwrap();
        assert!(refuse(root).is_ok());
        fs::create_dir_all(root.join("containers/abc")).unwrap();
        assert!(
            refuse(root)
                .unwrap_err()
                .to_string()
                .contains("state.db is missing")
        );
        fs::write(root.join("store/state.db"), "").unwrap();
        assert!(refuse(root).is_err());
        fs::write(root.join("store/state.db"), "x").unwrap();
        assert!(refuse(root).is_ok());
    }
}
