//! Data beside the model: only regular files inside of the model's folder.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::map::Mapping;
use super::proto::TensorProto;

/// The folder of a model, with the files that were mapped so far.
#[derive(Debug, Default)]
pub(super) struct Folder {
    path: PathBuf,
    mapped: RefCell<HashMap<String, Mapping>>,
}

impl Folder {
    /// The folder that a model file lies in.
    pub(super) fn of(model: &Path) -> Folder {
        let parent = model.parent().filter(|parent| !parent.as_os_str().is_empty());
        Folder { path: parent.unwrap_or(Path::new(".")).into(), mapped: RefCell::default() }
    }

    /// The bytes that a tensor's entries point to.
    pub(super) fn read(&self, proto: &TensorProto) -> Result<Bytes, String> {
        let (mut location, mut offset, mut length) = (None, 0usize, None);
        for entry in &proto.external_data {
            let number = || {
                entry.value.parse::<usize>().map_err(|_| format!("external data has {} `{}`", entry.key, entry.value))
            };
            match entry.key.as_str() {
                "location" => location = Some(entry.value.as_str()),
                "offset" => offset = number()?,
                "length" => length = Some(number()?),
                "checksum" => {}
                other => return Err(format!("external data has an unknown key `{other}`")),
            }
        }
        let location = location.ok_or("external data has no location")?;
        let file = self.file(location)?;
        let length = length.unwrap_or(file.len().saturating_sub(offset));
        let end = offset.checked_add(length).filter(|&end| end <= file.len());
        let end = end.ok_or_else(|| {
            format!("external data `{location}` has {} bytes, {length} from {offset} are asked for", file.len())
        })?;
        Ok(file.slice(offset..end))
    }

    fn file(&self, location: &str) -> Result<Bytes, String> {
        if let Some(mapping) = self.mapped.borrow().get(location) {
            return Ok(mapping.bytes());
        }
        let path = self.contained(location)?;
        let mapping = Mapping::of(&path).map_err(|error| format!("external data `{location}`: {error}"))?;
        self.mapped.borrow_mut().insert(location.into(), mapping.clone());
        Ok(mapping.bytes())
    }

    /// Takes the pages of all mapped files out of memory, until they are read again.
    pub(super) fn let_go(&self) {
        self.mapped.borrow().values().for_each(Mapping::let_go);
    }

    /// The path of a location, which must be relative, without `..`, without links, and a regular file with one name.
    fn contained(&self, location: &str) -> Result<PathBuf, String> {
        let relative = Path::new(location);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !plain {
            return Err(format!("external data `{location}` leaves the model's folder: refused"));
        }
        let mut path = self.path.clone();
        for part in relative.components() {
            path.push(part);
            let found = path.symlink_metadata().map_err(|error| format!("external data `{location}`: {error}"))?;
            if found.file_type().is_symlink() {
                return Err(format!("external data `{location}` is a link: refused"));
            }
        }
        let found = path.metadata().map_err(|error| format!("external data `{location}`: {error}"))?;
        if !found.is_file() || has_other_names(&found) {
            return Err(format!("external data `{location}` is no regular file with one name: refused"));
        }
        Ok(path)
    }
}

#[cfg(unix)]
fn has_other_names(found: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(found) > 1
}

#[cfg(not(unix))]
fn has_other_names(_found: &std::fs::Metadata) -> bool {
    false
}
