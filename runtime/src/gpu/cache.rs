//! What a driver made of shaders, kept in files: one for each set of shaders, adapter and driver, its hash in front.
//!
//! A cache saves time and nothing else: one that cannot be read or written is as good as none.

use std::path::PathBuf;

use edgecc_format::{Program, hash};

use super::device::Opened;
use super::model::Loaded;

const HASH_BYTES: usize = 32;

/// The cache of a model's pipelines on a device.
pub(super) struct Cache {
    pub(super) driver: wgpu::PipelineCache,
    path: PathBuf,
    was_there: bool,
}

impl Cache {
    /// Reads the cache; none where no folder is named or the adapter has no such thing.
    #[allow(unsafe_code)]
    pub(super) fn read(model: &Loaded, program: &Program, opened: &Opened) -> Option<Cache> {
        let folder = opened.cache.as_ref()?;
        if !opened.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = folder.join(format!("{}.pipelines", key(model, program, opened)?));
        let kept = std::fs::read(&path).ok().and_then(checked);
        let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: kept.as_deref(), fallback: true };
        // SAFETY: the bytes are what `get_data` gave for this adapter and driver, by name and by hash; the folder is the app's.
        let driver = unsafe { opened.device.create_pipeline_cache(&descriptor) };
        Some(Cache { driver, path, was_there: kept.is_some() })
    }

    /// Writes the cache, where there was none, by renaming a whole file.
    pub(super) fn write(&self) -> Option<()> {
        if self.was_there {
            return None;
        }
        let data = self.driver.get_data()?;
        let whole = self.path.with_extension(format!("part{}", std::process::id()));
        std::fs::create_dir_all(self.path.parent()?).ok()?;
        std::fs::write(&whole, [hash(&data).as_slice(), &data].concat()).ok()?;
        std::fs::rename(&whole, &self.path).ok()
    }
}

/// The bytes behind their hash.
fn checked(file: Vec<u8>) -> Option<Vec<u8>> {
    let (expected, data) = file.split_at_checked(HASH_BYTES)?;
    (hash(data).as_slice() == expected).then(|| data.to_vec())
}

/// Names shaders, adapter and driver; none where pipelines of the interface cannot be kept.
fn key(model: &Loaded, program: &Program, opened: &Opened) -> Option<String> {
    let adapter = wgpu::util::pipeline_cache_key(&opened.info)?;
    let driver = [adapter.as_str(), opened.adapter(), &opened.info.driver].join("\n");
    let whole = [hash(driver.as_bytes()), hash(model.texts(program))].concat();
    Some(hash(&whole).iter().map(|byte| format!("{byte:02x}")).collect())
}
