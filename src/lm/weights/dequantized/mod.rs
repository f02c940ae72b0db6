//! Tensors of a quantised checkpoint: each quantised linear map is dequantised when it is read. The arithmetic is in
//! fp32 and rounded once, to the requested type. All other tensors are read as stored.
//!
//! Implemented with tensor operations, so that it runs on the device of the weights. The crate `anamnesis`, which does
//! the same on the CPU, does not support GPTQ with 2 and 3 bits or zero points of `gptq_v2`, and supports blocks of
//! 128 by 128 only; its output for GPTQ and AWQ would have to be transposed, in a second copy.

mod bits;
mod bnb;
mod fp8;
mod packed;

use super::{Shards, TensorSource};
use crate::lm::quantization::Quantization;
use crate::lm::spec::{Layout, Spec};
use anyhow::{Context, Result, bail, ensure};
use safetensors::Dtype as FileDtype;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tch::{Device, Kind, Tensor};

/// Number of elements that are computed at a time.
const AT_ONCE: i64 = 1 << 22;

/// Upper bound on the bytes that they take besides the stored data and the result: four copies as 64-bit integers and
/// two in fp32 while packed integers are unpacked.
pub const BYTES_AT_ONCE: u64 = 40 * AT_ONCE as u64;

/// The number of rows computed at a time is a multiple of this: packed zero points start a new word at each.
const ROWS: i64 = 32;

/// The tensors of a quantised checkpoint.
pub struct Dequantized {
    stored: Shards,
    maps: HashMap<String, Box<dyn Map>>,
    /// The unquantised tensors and the dequantised maps.
    tensors: Vec<(String, Vec<i64>)>,
}

/// The stored tensors of one quantised map.
trait Map {
    /// Its dequantised shape; the last axis is the input.
    fn shape(&self) -> Vec<i64>;

    /// Loads the stored tensors to `device`.
    fn bring(&self, stored: &Shards, device: Device) -> Result<Box<dyn Rows>>;
}

/// A map loaded to the device where it is computed.
trait Rows {
    /// Rows `from..from + n` of the map, with all axes but the last flattened, `[n, input]` in fp32; `from` is a
    /// multiple of [`ROWS`].
    fn rows(&self, from: i64, n: i64) -> Result<Tensor>;
}

impl Dequantized {
    /// Groups the tensors of a checkpoint that is quantised with `method`; reads headers, and for 4-bit bitsandbytes
    /// also the few bytes that hold the shapes.
    ///
    /// # Errors
    /// A map with missing or inconsistent tensors; a tensor that belongs to no map.
    pub fn open(stored: Shards, method: Quantization, spec: &Spec) -> Result<Dequantized> {
        ensure!(
            spec.names.layout == Layout::OutIn,
            "its linear maps are stored `[in, out]`, of which quantised ones ({method}) are not read: use the unquantised \
             checkpoint"
        );
        let mut parts = Parts { left: stored.tensors().into_iter().collect(), stored: &stored };
        let maps = match method {
            Quantization::Fp8 { block } => fp8::maps(&mut parts, block)?,
            Quantization::Gptq { bits, group, zeros, .. } => {
                parts.drop_empty_biases(spec)?;
                packed::gptq(&mut parts, bits, group, zeros)?
            }
            Quantization::Awq { group, .. } => packed::awq(&mut parts, group)?,
            Quantization::BnbInt8 => bnb::eight_bits(&mut parts)?,
            Quantization::Bnb4 { table, double } => bnb::four_bits(&mut parts, table, double)?,
        };
        ensure!(
            !maps.is_empty(),
            "config.json says that weights are quantised with {method}, but none of the tensors is"
        );
        if let Some(name) = parts.left.keys().find(|name| is_part(name)) {
            bail!("tensor `{name}` belongs to no map that is quantised with {method}");
        }
        let mut tensors: Vec<_> = parts.left.into_iter().collect();
        for (name, map) in &maps {
            tensors.push((name.clone(), map.shape()));
        }
        Ok(Dequantized { maps, tensors, stored })
    }
}

impl TensorSource for Dequantized {
    fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        self.tensors.clone()
    }

    fn read(&self, name: &str, kind: Kind, device: Device) -> Result<Tensor> {
        match self.maps.get(name) {
            Some(map) => self.compute(&**map, kind, device, AT_ONCE),
            None => self.stored.read(name, kind, device),
        }
    }
}

impl Dequantized {
    /// Dequantises a map as `kind` on `device`, about `at_once` elements at a time.
    fn compute(&self, map: &dyn Map, kind: Kind, device: Device, at_once: i64) -> Result<Tensor> {
        // MPS does not support some of the types.
        let there = if device == Device::Mps { Device::Cpu } else { device };
        let shape = map.shape();
        let width = *shape.last().context("a map of no axes")?;
        let rows: i64 = shape[..shape.len() - 1].iter().product();
        let result = Tensor::f_empty(&shape, (kind, there))?;
        let flat = result.f_view([rows, width])?;
        let stored = map.bring(&self.stored, there)?;
        let step = (at_once / width.max(1) / ROWS).max(1) * ROWS;
        for from in (0..rows).step_by(step as usize) {
            let n = step.min(rows - from);
            flat.narrow(0, from, n).f_copy_(&stored.rows(from, n)?)?;
        }
        Ok(result.to_device(device))
    }
}

/// Whether a tensor's name shows that it is part of a quantised map of some method and never stands alone.
fn is_part(name: &str) -> bool {
    const ENDINGS: [&str; 13] = [
        "_scale_inv",
        ".weight_scale",
        ".activation_scale",
        ".input_scale",
        ".qweight",
        ".qzeros",
        ".scales",
        ".g_idx",
        ".SCB",
        ".weight_format",
        ".absmax",
        ".quant_map",
        ".nested_absmax",
    ];
    ENDINGS.iter().any(|ending| name.ends_with(ending)) || name.contains(".quant_state.")
}

/// The tensors of a checkpoint that are not yet assigned to a map.
struct Parts<'a> {
    left: BTreeMap<String, Vec<i64>>,
    stored: &'a Shards,
}

/// One stored tensor.
#[derive(Clone)]
struct Part {
    name: String,
    shape: Vec<i64>,
    dtype: FileDtype,
}

impl Part {
    fn numbers(&self) -> i64 {
        self.shape.iter().product()
    }

    /// An error unless its type is one of `of` and its shape is `shape`.
    fn is(self, of: &[FileDtype], shape: &[i64]) -> Result<Part> {
        let Part { name, dtype, .. } = &self;
        ensure!(of.contains(dtype), "tensor `{name}` is of type {dtype:?}, not {of:?}");
        ensure!(self.shape == shape, "tensor `{name}` has shape {:?}, not {shape:?}", self.shape);
        Ok(self)
    }
}

impl Parts<'_> {
    fn find(&self, name: &str) -> Option<Part> {
        let shape = self.left.get(name)?.clone();
        let dtype = self.stored.view(name).ok()?.dtype();
        Some(Part { name: name.to_string(), shape, dtype })
    }

    fn take(&mut self, name: &str) -> Option<Part> {
        let part = self.find(name)?;
        self.left.remove(name);
        Some(part)
    }

    fn need(&mut self, name: &str, of: &str) -> Result<Part> {
        self.take(name).with_context(|| format!("`{of}` is quantised, but its `{name}` is missing"))
    }

    /// The prefixes of all names that end in `ending`.
    fn before(&self, ending: &str) -> Vec<String> {
        self.left.keys().filter_map(|name| name.strip_suffix(ending)).map(String::from).collect()
    }

    /// Some writers of GPTQ give every map a bias, which is zero where the model has none; removes these.
    fn drop_empty_biases(&mut self, spec: &Spec) -> Result<()> {
        let wanted: BTreeSet<String> = spec.tensors().into_iter().map(|(name, _)| name).collect();
        for module in self.before(".qweight") {
            let bias = format!("{module}.bias");
            if self.left.contains_key(&bias) && !wanted.contains(&spec.canonical(&bias)) {
                let numbers = self.stored.read(&bias, Kind::Float, Device::Cpu)?;
                ensure!(
                    numbers.count_nonzero(None).int64_value(&[]) == 0,
                    "tensor `{bias}` is not zero, and the model has no such bias"
                );
                self.left.remove(&bias);
            }
        }
        Ok(())
    }
}

/// `n / of`, rounded up.
fn parts(n: i64, of: i64) -> i64 {
    n / of + i64::from(n % of != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::Checkpoint;
    use std::collections::HashMap;
    use std::path::Path;

    fn open(name: &str) -> Dequantized {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quantised").join(name);
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let spec = checkpoint.spec().unwrap();
        let stored = Shards::open(checkpoint.weights()).unwrap();
        Dequantized::open(stored, spec.quantization.unwrap(), &spec).unwrap()
    }

    #[test]
    fn a_map_is_the_same_however_many_rows_are_computed_at_a_time() {
        for name in ["fp8", "fp8-tensor", "gptq", "gptq-3", "gptq-8", "awq", "nf4", "fp4", "int8"] {
            let source = open(name);
            for (map, of) in &source.maps {
                let whole = source.read(map, Kind::Float, Device::Cpu).unwrap();
                let parts = source.compute(&**of, Kind::Float, Device::Cpu, 1).unwrap();
                assert!(whole.equal(&parts) && whole.size() == of.shape(), "{name}: {map}");
                let half = source.read(map, Kind::BFloat16, Device::Cpu).unwrap();
                assert!(half.equal(&whole.to_kind(Kind::BFloat16)), "{name}: {map} is rounded once");
            }
        }
    }

    type One = (FileDtype, Vec<usize>, Vec<u8>);
    type Stored = HashMap<String, One>;

    fn saved(stored: &Stored, method: Quantization) -> Result<Dequantized> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("model.safetensors");
        let views: Vec<_> = stored
            .iter()
            .map(|(name, (dtype, shape, bytes))| {
                Ok((name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes)?))
            })
            .collect::<Result<_>>()?;
        safetensors::serialize_to_file(views, None, &path)?;
        let spec = Spec::from_config(&serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 8, "vocab_size": 8,
            "num_attention_heads": 1, "num_hidden_layers": 1, "torch_dtype": "float32"
        }))?;
        Dequantized::open(Shards::open(&[path])?, method, &spec)
    }

    fn floats(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    /// 3 by 5 in blocks of 2 by 2, the last ones partial: 1 and -2 in e4m3 are 0x38 and 0xC0.
    #[test]
    fn blocks_at_the_borders_of_a_matrix_need_not_be_full() {
        let bytes: Vec<u8> = (0..15).map(|at| if at % 2 == 0 { 0x38 } else { 0xC0 }).collect();
        let scales = floats(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
        let stored: Stored = HashMap::from([
            ("a.weight".to_string(), (FileDtype::F8_E4M3, vec![3, 5], bytes)),
            ("a.weight_scale_inv".to_string(), (FileDtype::F32, vec![2, 3], scales)),
        ]);
        let source = saved(&stored, Quantization::Fp8 { block: Some([2, 2]) }).unwrap();
        let got = source.read("a.weight", Kind::Float, Device::Cpu).unwrap();
        let want = [1.0, -2.0, 2.0, -4.0, 4.0, -2.0, 1.0, -4.0, 2.0, -8.0, 8.0, -16.0, 16.0, -32.0, 32.0f32];
        assert_eq!(Vec::<f32>::try_from(got.view(-1)).unwrap(), want);
    }

    #[test]
    fn parts_that_are_missing_or_do_not_fit_are_named() {
        let fp8 = Quantization::Fp8 { block: Some([2, 2]) };
        let weight = (FileDtype::F8_E4M3, vec![2, 2], vec![0x38; 4]);
        let scale = |shape: Vec<usize>| {
            let n = shape.iter().product();
            (FileDtype::F32, shape, floats(&vec![1.0; n]))
        };
        let plain = ("b.weight".to_string(), scale(vec![2, 2]));
        let case = |more: &[(&str, One)], says: &str| {
            let mut stored: Stored = HashMap::from([plain.clone()]);
            stored.extend(more.iter().map(|(name, part)| (name.to_string(), part.clone())));
            let error = saved(&stored, fp8).map(|_| ()).expect_err(says);
            assert!(format!("{error:#}").contains(says), "{error:#}");
        };
        case(&[], "none of the tensors is");
        case(&[("a.weight", weight.clone())], "its `a.weight_scale_inv` is missing");
        case(
            &[("a.weight", weight.clone()), ("a.weight_scale_inv", scale(vec![2, 2]))],
            "has shape [2, 2], not [1, 1]",
        );
        case(
            &[
                ("a.weight", weight),
                ("a.weight_scale_inv", scale(vec![1, 1])),
                ("c.weight_scale_inv", scale(vec![1, 1])),
            ],
            "`c.weight_scale_inv` belongs to no map",
        );
    }

    /// An out-of-range index into the groups of scales, in an untrusted file.
    #[test]
    fn a_group_that_is_not_there_is_refused() {
        let words = |n: usize| vec![0x11; 4 * n];
        let index: Vec<u8> = [0, 0, 0, 0, 1, 1, 1, 7_i32].iter().flat_map(|n| n.to_le_bytes()).collect();
        let stored: Stored = HashMap::from([
            ("a.qweight".to_string(), (FileDtype::I32, vec![1, 8], words(8))),
            ("a.qzeros".to_string(), (FileDtype::I32, vec![2, 1], words(2))),
            ("a.scales".to_string(), (FileDtype::F32, vec![2, 8], floats(&[1.0; 16]))),
            ("a.g_idx".to_string(), (FileDtype::I32, vec![8], index)),
        ]);
        let zeros = crate::lm::quantization::GptqZeros::Plain;
        let method = Quantization::Gptq { bits: 4, group: Some(4), by_activation: true, zeros };
        let error = saved(&stored, method).unwrap().read("a.weight", Kind::Float, Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("`a.g_idx` names group 0 to 7 of 2"), "{error}");
    }
}
