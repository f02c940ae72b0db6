//! safetensors files: one, or the shards of one checkpoint. A tensor is read by name, regardless of which file holds
//! it.

use super::TensorSource;
use crate::lm::checkpoint::refuse_pointer;
use anyhow::{Context, Result, anyhow, bail, ensure};
use fs_err as fs;
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype as FileDtype, SafeTensorError, SafeTensors};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The largest header that is accepted: the limit of the safetensors format itself.
const LARGEST_HEADER: u64 = 100_000_000;

/// The tensors of safetensors files.
pub struct Shards {
    files: Vec<File>,
    /// Index of the file that holds each tensor.
    places: HashMap<String, usize>,
}

impl Shards {
    /// Maps the files at `paths` and reads their headers.
    ///
    /// # Errors
    /// An invalid safetensors file; a tensor that is in two files.
    pub fn open(paths: &[PathBuf]) -> Result<Shards> {
        let files = paths.iter().map(|path| File::open(path)).collect::<Result<Vec<File>>>()?;
        let mut places = HashMap::new();
        for (at, (path, file)) in paths.iter().zip(&files).enumerate() {
            for name in file.header.offset_keys() {
                let before = places.insert(name.clone(), at);
                ensure!(before.is_none(), "{}: tensor `{name}` is there twice", path.display());
            }
        }
        Ok(Shards { files, places })
    }

    /// A stored tensor: its type, its shape and its bytes in the mapped file.
    ///
    /// # Errors
    /// An unknown name.
    pub fn view(&self, name: &str) -> Result<TensorView<'_>> {
        self.file(name)?.view(name)
    }

    /// A tensor on `device` in its stored type, including integers and 8-bit floats (e4m3).
    ///
    /// # Errors
    /// An unknown name; an unsupported type.
    pub fn stored(&self, name: &str, device: Device) -> Result<Tensor> {
        let view = self.view(name)?;
        let kind = match view.dtype() {
            FileDtype::U8 => Kind::Uint8,
            FileDtype::I8 => Kind::Int8,
            FileDtype::I32 | FileDtype::U32 => Kind::Int,
            FileDtype::I64 => Kind::Int64,
            FileDtype::F8_E4M3 => Kind::Float8e4m3fn,
            other => file_kind(other)?,
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?.f_to_device(device)?)
    }

    fn file(&self, name: &str) -> Result<&File> {
        let at = self.places.get(name).with_context(|| format!("there is no tensor `{name}`"))?;
        Ok(&self.files[*at])
    }
}

impl TensorSource for Shards {
    fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        let in_order = self.files.iter().flat_map(|file| {
            let names = file.header.offset_keys().into_iter();
            names.filter_map(|name| Some((file.header.info(&name)?.shape.clone(), name)))
        });
        in_order.map(|(shape, name)| (name, shape.iter().map(|&n| n as i64).collect())).collect()
    }

    fn read(&self, name: &str, kind: Kind, device: Device) -> Result<Tensor> {
        self.file(name)?.read(name, kind, device)
    }

    fn is_mapped(&self) -> bool {
        true
    }
}

/// One mapped file.
struct File {
    path: PathBuf,
    map: Mmap,
    header: Metadata,
    /// Offset of the data.
    start: usize,
    /// The file's bytes as a tensor that CPU tensors can be views of, if libtorch can map the file.
    whole: OnceCell<Option<Tensor>>,
}

impl File {
    fn open(path: &Path) -> Result<File> {
        let map = map(path)?;
        let header = SafeTensors::read_metadata(&map);
        let (length, header) = header.map_err(|e| match e {
            SafeTensorError::MetadataIncompleteBuffer => anyhow!(
                "{}: its {} bytes are not as many as its header says: copy or download it again",
                path.display(),
                map.len()
            ),
            other => anyhow!("{}: {other}", path.display()),
        })?;
        // The header is preceded by its length, in eight bytes.
        Ok(File { path: path.to_path_buf(), map, header, start: length + 8, whole: OnceCell::new() })
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        let info = self.header.info(name).with_context(|| format!("there is no tensor `{name}`"))?;
        let (from, to) = info.data_offsets;
        let bytes =
            self.map.get(self.start + from..self.start + to).context("its data is not in the file")?;
        TensorView::new(info.dtype, info.shape.clone(), bytes).map_err(|e| anyhow!("{e}"))
    }

    /// The whole file, mapped by libtorch.
    fn whole(&self) -> Option<&Tensor> {
        let map = || {
            let bytes = Some(self.map.len() as i64);
            Tensor::f_from_file(self.path.to_str()?, false, bytes, (Kind::Uint8, Device::Cpu)).ok()
        };
        self.whole.get_or_init(map).as_ref()
    }

    /// A tensor of the file. On the CPU, a tensor stored as `kind` is not copied: the result is a view of a mapping of
    /// the file (private, and kept by libtorch as long as a tensor needs it), so that processes share the pages, and
    /// the system may drop and reread them when memory is short. Any other tensor is converted or moved directly from
    /// the file's pages, which are then released, so that only this one tensor exists twice at a time.
    ///
    /// A file truncated while the program runs ends it with a bus error, and one overwritten in place changes the
    /// model; programs that write checkpoints (including [`save`](super::save)) replace the old file with a new one,
    /// which causes neither.
    fn read(&self, name: &str, kind: Kind, device: Device) -> Result<Tensor> {
        let view = self.view(name)?;
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let stored = file_kind(view.dtype())?;
        let (start, len) = (view.data().as_ptr() as usize - self.map.as_ptr() as usize, view.data().len());
        if start % stored.elt_size_in_bytes() != 0 {
            // An unusual file, since writers align their headers; libtorch cannot read from unaligned addresses.
            let tensor = Tensor::f_from_data_size(view.data(), &shape, stored)?;
            return Ok(tensor.to_device(device).to_kind(kind));
        }
        if let Some(whole) = (stored == kind && device == Device::Cpu).then(|| self.whole()).flatten() {
            let bytes = whole.narrow(0, start as i64, len as i64);
            return Ok(bytes.f_view_dtype(kind)?.f_view(shape.as_slice())?);
        }
        // SAFETY: there are as many bytes as `shape` needs, or safetensors would have refused the file, and they stay
        // until the end of this function, after which nothing refers to them; libtorch only reads them.
        let mapped = unsafe {
            Tensor::f_from_blob(view.data().as_ptr(), &shape, &strides(&shape), stored, Device::Cpu)?
        };
        let tensor = match (device, stored == kind) {
            (Device::Cpu, true) => mapped.copy(),
            _ => mapped.to_device(device).to_kind(kind),
        };
        // SAFETY: the mapping is read-only and backed by a file: a page that is accessed again is read again.
        #[cfg(unix)]
        unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len)?;
        }
        Ok(tensor)
    }
}

/// Strides of a row-major tensor.
fn strides(shape: &[i64]) -> Vec<i64> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// Maps a file after checking the length of its header.
fn map(path: &Path) -> Result<Mmap> {
    let file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    ensure!(size >= 8, "{}: not a safetensors file: {size} bytes", path.display());
    // SAFETY: the mapping is read-only and lives only while tensors are copied out of it. If another process truncates
    // the file meanwhile, the program ends with a bus error, as with any mapped file.
    let map = unsafe { Mmap::map(file.file()) }.with_context(|| format!("map {}", path.display()))?;
    refuse_pointer(path, &map)?;
    let header = u64::from_le_bytes(map[..8].try_into()?);
    ensure!(
        header <= LARGEST_HEADER && header <= size - 8,
        "{}: not a safetensors file: a header of {header} bytes in a file of {size}",
        path.display()
    );
    Ok(map)
}

fn file_kind(dtype: FileDtype) -> Result<Kind> {
    Ok(match dtype {
        FileDtype::F32 => Kind::Float,
        FileDtype::BF16 => Kind::BFloat16,
        FileDtype::F16 => Kind::Half,
        FileDtype::F64 => Kind::Double,
        other => {
            bail!("it is of type {other:?}, where a floating-point number of 16, 32 or 64 bits is needed")
        }
    })
}
