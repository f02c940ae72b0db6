//! safetensors files to tensors by name and back, and the check of names and shapes against a
//! `Spec`. Knows nothing of what the tensors are for.

use super::spec::{Dtype, Spec};
use anyhow::{Context, Result, anyhow, bail, ensure};
use fs_err as fs;
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::tensor::TensorView;
use safetensors::{Dtype as FileDtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The largest header that is read, the limit of the safetensors format itself.
const LARGEST_HEADER: u64 = 100_000_000;

/// Reads every tensor of `shards`, one by one, as `dtype` on `device`. Names and shapes are checked
/// against `spec` from the headers, before any data is read.
///
/// # Errors
/// A file that is no safetensors file; a tensor in two files; see also [`check`].
pub fn load(
    spec: &Spec,
    shards: &[PathBuf],
    dtype: Dtype,
    device: Device,
) -> Result<HashMap<String, Tensor>> {
    let maps = shards.iter().map(|path| map(path)).collect::<Result<Vec<Mmap>>>()?;
    let mut files = Vec::new();
    for (path, map) in shards.iter().zip(&maps) {
        files.push(SafeTensors::deserialize(map).map_err(|e| anyhow!("{}: {e}", path.display()))?);
    }
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for (path, file) in shards.iter().zip(&files) {
        for (name, view) in file.iter() {
            let name = spec.canonical(name);
            ensure!(names.insert(name.clone()), "{}: tensor `{name}` is there twice", path.display());
            found.push((name, view.shape().iter().map(|&n| n as i64).collect::<Vec<i64>>()));
        }
    }
    let copy = copied_unembed(spec);
    check(
        spec,
        found
            .iter()
            .filter(|(name, _)| spec.spare(name).is_none() && copy.as_ref() != Some(name))
            .map(|(name, shape)| (name.as_str(), shape.clone())),
    )?;
    let mut tensors = HashMap::new();
    for ((path, map), file) in shards.iter().zip(&maps).zip(&files) {
        let source = Source::new(path, map, device);
        for (name, view) in file.iter() {
            let name = spec.canonical(name);
            if spec.spare(&name).is_some() {
                continue;
            }
            let tensor = source.read(&view, dtype.kind()).with_context(|| format!("tensor `{name}`"))?;
            tensors.insert(name, tensor);
        }
    }
    Ok(tensors)
}

/// One file whose tensors are wanted on `device`.
struct Source<'a> {
    map: &'a Mmap,
    device: Device,
    /// The file's bytes as a tensor, where tensors on `device` may be parts of it.
    whole: Option<Tensor>,
}

impl Source<'_> {
    fn new<'a>(path: &Path, map: &'a Mmap, device: Device) -> Source<'a> {
        let whole = || {
            let bytes = Some(map.len() as i64);
            Tensor::f_from_file(path.to_str()?, false, bytes, (Kind::Uint8, Device::Cpu)).ok()
        };
        Source { map, device, whole: if device == Device::Cpu { whole() } else { None } }
    }

    /// A tensor of the file. On the CPU, one that is stored as `kind` stays where it is: the result is
    /// a part of a mapping of the file (private, and kept by libtorch for as long as a tensor needs
    /// it), so that nothing is copied, processes share the pages, and the system may drop and read
    /// them again instead of running out. Any other is converted or moved straight from the file's
    /// pages, which are given back, so that no more than this one tensor is there twice.
    ///
    /// A file cut short while the program runs ends it with a bus error, and one that is overwritten in
    /// place changes the model; those who write checkpoints (also [`save`]) put a new file in the old
    /// one's place, which does neither.
    fn read(&self, view: &TensorView, kind: Kind) -> Result<Tensor> {
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let stored = file_kind(view.dtype())?;
        let (start, len) = (view.data().as_ptr() as usize - self.map.as_ptr() as usize, view.data().len());
        if start % stored.elt_size_in_bytes() != 0 {
            // A stranger's file, since writers align their headers; libtorch does not read from odd places.
            let tensor = Tensor::f_from_data_size(view.data(), &shape, stored)?;
            return Ok(tensor.to_device(self.device).to_kind(kind));
        }
        if let (true, Some(whole)) = (stored == kind, &self.whole) {
            let bytes = whole.narrow(0, start as i64, len as i64);
            return Ok(bytes.f_view_dtype(kind)?.f_view(shape.as_slice())?);
        }
        // SAFETY: the bytes are as many as `shape` needs, or safetensors had refused the file, and stay until the
        // end of this function, where nothing refers to them any more; libtorch only reads them.
        let mapped = unsafe {
            Tensor::f_from_blob(view.data().as_ptr(), &shape, &strides(&shape), stored, Device::Cpu)?
        };
        let tensor = match (self.device, stored == kind) {
            (Device::Cpu, true) => mapped.copy(),
            _ => mapped.to_device(self.device).to_kind(kind),
        };
        // SAFETY: the mapping is read-only and of a file: a page that is touched again is read again.
        #[cfg(unix)]
        unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len)?;
        }
        Ok(tensor)
    }
}

/// Steps of a row-major tensor along each axis.
fn strides(shape: &[i64]) -> Vec<i64> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// Writes tensors as one safetensors file with the metadata that transformers asks for. Replaces
/// the file only when it is written in full.
///
/// # Errors
/// A dtype other than f32, bf16 and f16; a file that cannot be written.
pub fn save(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let views = tensors
        .iter()
        .map(|(name, tensor)| {
            Ok((name.as_str(), Bytes::new(tensor).with_context(|| format!("tensor `{name}`"))?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), path)
        .map_err(|e| anyhow!("write {}: {e}", path.display()))
}

/// Compares tensors that were found, by name and shape, with those that the model needs.
///
/// # Errors
/// All tensors that are missing, that nobody takes, and those of a wrong shape.
pub fn check<'a>(spec: &Spec, found: impl Iterator<Item = (&'a str, Vec<i64>)>) -> Result<()> {
    let found: HashMap<&str, Vec<i64>> = found.collect();
    let wanted = spec.tensors();
    let mut problems = Vec::new();
    for (name, shape) in &wanted {
        match found.get(name.as_str()) {
            None => problems.push(format!("tensor `{name}` is missing")),
            Some(there) if there != shape => {
                problems.push(format!("tensor `{name}` has shape {there:?}, config.json says {shape:?}"));
            }
            Some(_) => {}
        }
    }
    let wanted: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let left: BTreeSet<&str> = found.keys().copied().filter(|name| !wanted.contains(name)).collect();
    problems
        .extend(left.iter().map(|name| format!("tensor `{name}` is in the checkpoint but not in the model")));
    if problems.is_empty() {
        return Ok(());
    }
    const SHOWN: usize = 10;
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    bail!("the checkpoint's tensors are not those of its config.json:\n  {}", problems.join("\n  "))
}

/// Removes what is no part of the model (see [`Spec::spare`]), and a copy of the embedding stored as
/// the unembedding of a tied model.
///
/// # Errors
/// A tied model whose stored unembedding differs from its embedding.
pub fn take_spare(spec: &Spec, tensors: &mut HashMap<String, Tensor>) -> Result<()> {
    tensors.retain(|name, _| spec.spare(name).is_none());
    if let Some(copy) = copied_unembed(spec).and_then(|name| tensors.remove(&name)) {
        let embed = tensors.get(&format!("{}.weight", spec.names.embed));
        ensure!(
            embed.is_some_and(|embed| embed.size() == copy.size() && embed.equal(&copy)),
            "config.json ties the unembedding to the embedding, but `{}.weight` differs from `{}.weight`",
            spec.names.unembed,
            spec.names.embed
        );
    }
    Ok(())
}

fn copied_unembed(spec: &Spec) -> Option<String> {
    spec.tied.then(|| format!("{}.weight", spec.names.unembed))
}

/// Maps a file after a look at the length of its header.
fn map(path: &Path) -> Result<Mmap> {
    let file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    ensure!(size >= 8, "{}: not a safetensors file: {size} bytes", path.display());
    // SAFETY: the mapping is read-only and lives only while tensors are copied out of it. A file
    // cut short by another process meanwhile ends the program with a bus error, as any mapped file.
    let map = unsafe { Mmap::map(file.file()) }.with_context(|| format!("map {}", path.display()))?;
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
        other => bail!("dtype {other:?} is not supported (quantised checkpoints are not read)"),
    })
}

/// A tensor's bytes, as safetensors writes them.
struct Bytes {
    dtype: FileDtype,
    shape: Vec<usize>,
    tensor: Tensor,
}

impl Bytes {
    fn new(tensor: &Tensor) -> Result<Bytes> {
        let dtype = match tensor.kind() {
            Kind::Float => FileDtype::F32,
            Kind::BFloat16 => FileDtype::BF16,
            Kind::Half => FileDtype::F16,
            other => bail!("{other:?} is not written"),
        };
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        Ok(Bytes { dtype, shape, tensor: tensor.detach().to_device(Device::Cpu).contiguous() })
    }
}

impl View for Bytes {
    fn dtype(&self) -> FileDtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        self.tensor.copy_data_u8(&mut bytes, self.tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}
