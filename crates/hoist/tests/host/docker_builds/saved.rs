//! Images in an archive of `docker save`: their configs, and their files as a container would see them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use hoist_testkit::sha256;
use serde_json::Value;
use tar::EntryType;

/// An archive, small enough to be held.
pub(super) struct Archive {
    files: HashMap<String, Vec<u8>>,
    links: HashMap<String, String>,
    manifest: Vec<Value>,
}

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config: Value,
    pub(super) files: BTreeMap<String, Node>,
}

/// A file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Kind, permissions, owner, content, attributes.
    pub(super) described: String,
    pub(super) is_directory: bool,
    pub(super) modified: u64,
    /// Which file it is, where it has several names.
    pub(super) inode: usize,
}

impl Archive {
    pub(super) fn read(path: &Path) -> Self {
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let (mut files, mut links) = (HashMap::new(), HashMap::new());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            if let Some(target) = entry.link_name().unwrap() {
                // `../<id>/layer.tar`: a layer that another image has too.
                let target = target
                    .to_string_lossy()
                    .trim_start_matches("../")
                    .to_owned();
                links.insert(name, target);
                continue;
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(name, content);
        }
        let manifest = serde_json::from_slice(&files["manifest.json"]).unwrap();
        Self {
            files,
            links,
            manifest,
        }
    }

    fn file(&self, name: &Value) -> &[u8] {
        let name = name.as_str().unwrap();
        let name = self.links.get(name).map_or(name, String::as_str);
        &self.files[name]
    }

    /// The image of a name.
    pub(super) fn image(&self, tag: &str) -> Image {
        let has_it = |image: &&Value| {
            let tags = image["RepoTags"].as_array();
            tags.is_some_and(|tags| tags.iter().any(|one| one == tag))
        };
        let found = self.manifest.iter().find(has_it);
        let found = found.unwrap_or_else(|| panic!("{tag} is not in the archive"));
        let (mut files, mut inodes) = (BTreeMap::new(), 0);
        for layer in found["Layers"].as_array().unwrap() {
            apply(self.file(layer), &mut files, &mut inodes);
        }
        Image {
            config: serde_json::from_slice(self.file(&found["Config"])).unwrap(),
            files,
        }
    }
}

fn apply(layer: &[u8], files: &mut BTreeMap<String, Node>, inodes: &mut usize) {
    let mut archive = tar::Archive::new(layer);
    let mut own = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let path = path.trim_start_matches("./").trim_matches('/').to_owned();
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let slash = if parent.is_empty() { "" } else { "/" };
        if name == ".wh..wh..opq" {
            // What this layer has there stays, wherever it stands in the archive.
            remove(files, &format!("{parent}{slash}"), &own);
            continue;
        }
        if let Some(hidden) = name.strip_prefix(".wh.") {
            let hidden = format!("{parent}{slash}{hidden}");
            files.remove(&hidden);
            remove(files, &format!("{hidden}/"), &[]);
            continue;
        }
        if path.is_empty() {
            continue;
        }
        *inodes += 1;
        let node = node(&mut entry, files, *inodes);
        if !node.is_directory {
            remove(files, &format!("{path}/"), &[]);
        }
        own.push(path.clone());
        files.insert(path, node);
    }
}

fn remove(files: &mut BTreeMap<String, Node>, prefix: &str, but: &[String]) {
    files.retain(|path, _| !path.starts_with(prefix) || but.contains(path));
}

fn node(entry: &mut tar::Entry<'_, &[u8]>, files: &BTreeMap<String, Node>, inode: usize) -> Node {
    let link = entry.link_name_bytes().unwrap_or_default().into_owned();
    let link = String::from_utf8(link).unwrap();
    if entry.header().entry_type() == EntryType::Link {
        return files[link.trim_start_matches("./").trim_start_matches('/')].clone();
    }
    let mut attributes = Vec::new();
    for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
        let extension = extension.unwrap();
        if let Ok(key) = extension.key()
            && let Some(name) = key.strip_prefix("SCHILY.xattr.")
        {
            attributes.push(format!(
                " {name}={}",
                extension.value_bytes().escape_ascii()
            ));
        }
    }
    attributes.sort();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let header = entry.header();
    let what = match header.entry_type() {
        EntryType::Regular => format!(
            "file of {} bytes, {}",
            content.len(),
            &sha256(&content)[7..15]
        ),
        EntryType::Directory => "directory".to_owned(),
        EntryType::Symlink => format!("link to {link}"),
        other => format!("{other:?}"),
    };
    let (mode, uid, gid) = (
        header.mode().unwrap() & 0o7777,
        header.uid().unwrap(),
        header.gid().unwrap(),
    );
    let is_link = header.entry_type() == EntryType::Symlink;
    // A link has no permissions of its own (symlink(7)).
    let mode = if is_link { 0o777 } else { mode };
    Node {
        described: format!("{mode:04o} {uid}:{gid} {what}{}", attributes.concat()),
        is_directory: header.entry_type() == EntryType::Directory,
        modified: header.mtime().unwrap(),
        inode,
    }
}
