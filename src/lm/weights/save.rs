//! Writes tensors to a safetensors file. Independent of what the tensors are used for.

use anyhow::{Context, Result, anyhow, bail};
use safetensors::{Dtype as FileDtype, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Writes tensors as one safetensors file with the metadata that transformers requires. Replaces an existing file only
/// once the new one is complete.
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

/// A tensor's bytes, in the form that safetensors writes.
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
