//! bitsandbytes: 8-bit integers with a scale per row, or 4-bit indices into a table with a scale per block; these
//! scales may be quantised too.

use super::{Map, Part, Parts, Rows, parts};
use crate::lm::quantization::Bnb4Table;
use crate::lm::weights::{Shards, TensorSource};
use anyhow::{Context, Result, bail, ensure};
use safetensors::Dtype as FileDtype;
use serde::Deserialize;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// 1/127 as written in bitsandbytes: multiplies an integer times its row's scale.
const BY_127: f64 = 7.874015718698502e-3;

/// Finds every module with an `SCB`, the scales of its rows.
pub fn eight_bits(of: &mut Parts) -> Result<HashMap<String, Box<dyn Map>>> {
    let mut maps: HashMap<String, Box<dyn Map>> = HashMap::new();
    for module in of.before(".SCB") {
        let scales = of.need(&format!("{module}.SCB"), &module)?;
        let name = format!("{module}.weight");
        let weight = of.need(&name, &module)?;
        ensure!(weight.shape.len() == 2, "tensor `{name}` has shape {:?}, not two axes", weight.shape);
        let weight = weight.clone().is(&[FileDtype::I8], &weight.shape)?;
        // The plain row layout is the only one that is still written.
        if let Some(layout) = of.take(&format!("{module}.weight_format")) {
            let code = of.stored.view(&layout.name)?;
            ensure!(code.data().iter().all(|&byte| byte == 0), "`{}` is not that of plain rows", layout.name);
        }
        let rows = weight.shape[0];
        let scales = scales.is(&[FileDtype::F32], &[rows])?;
        maps.insert(name, Box::new(Eight { weight, scales }));
    }
    Ok(maps)
}

struct Eight {
    weight: Part,
    scales: Part,
}

impl Map for Eight {
    fn shape(&self) -> Vec<i64> {
        self.weight.shape.clone()
    }

    fn bring(&self, stored: &Shards, device: Device) -> Result<Box<dyn Rows>> {
        Ok(Box::new(BroughtEight {
            weight: stored.stored(&self.weight.name, device)?,
            scales: stored.read(&self.scales.name, Kind::Float, device)?.f_view([-1, 1])?,
        }))
    }
}

struct BroughtEight {
    weight: Tensor,
    scales: Tensor,
}

impl Rows for BroughtEight {
    fn rows(&self, from: i64, n: i64) -> Result<Tensor> {
        let weight = self.weight.f_narrow(0, from, n)?.f_to_kind(Kind::Float)?;
        Ok(weight.f_mul(&self.scales.f_narrow(0, from, n)?)?.f_mul_scalar(BY_127)?)
    }
}

/// The JSON that bitsandbytes stores in a tensor next to a weight.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: i64,
    shape: Vec<i64>,
    nested_blocksize: Option<i64>,
    nested_offset: Option<f64>,
}

/// Finds every tensor with an `absmax`, the scales of its blocks.
pub fn four_bits(of: &mut Parts, table: Bnb4Table, double: bool) -> Result<HashMap<String, Box<dyn Map>>> {
    let kind = match table {
        Bnb4Table::Nf4 => "nf4",
        Bnb4Table::Fp4 => "fp4",
    };
    let mut maps: HashMap<String, Box<dyn Map>> = HashMap::new();
    for name in of.before(".absmax") {
        let map = Four::take(of, &name, kind, double).with_context(|| format!("`{name}`"))?;
        maps.insert(name, Box::new(map));
    }
    Ok(maps)
}

struct Four {
    shape: Vec<i64>,
    weight: Part,
    scales: Part,
    /// The 16 values.
    table: Part,
    /// Elements that share a scale.
    block: i64,
    nested: Option<Nested>,
}

/// How scales are quantised: indices into a table of 256 values, times a scale per block of them, plus an offset.
struct Nested {
    scales: Part,
    table: Part,
    /// Number of scales that share a scale.
    block: i64,
    offset: f64,
}

impl Four {
    /// Takes the tensors of the weight `name`, which is quantised with the table `kind`.
    fn take(of: &mut Parts, name: &str, kind: &str, double: bool) -> Result<Four> {
        let state = of.need(&format!("{name}.quant_state.bitsandbytes__{kind}"), name)?;
        let state: State = serde_json::from_slice(of.stored.view(&state.name)?.data())
            .with_context(|| format!("`{}` is not what bitsandbytes writes", state.name))?;
        ensure!(state.quant_type == kind, "it is quantised with {}, not {kind}", state.quant_type);
        let weight = of.need(name, name)?;
        let bytes = of.stored.view(name)?.data().len();
        let numbers = state.shape.iter().try_fold(1_i64, |all, &n| all.checked_mul(n).filter(|&n| n >= 0));
        let numbers = numbers.filter(|&n| state.shape.len() == 2 && parts(n, 2) == bytes as i64);
        let numbers = numbers
            .with_context(|| format!("{bytes} bytes do not hold 4 bits of a map of {:?}", state.shape))?;
        ensure!(state.blocksize > 0, "its blocks are of {} numbers", state.blocksize);
        let blocks = parts(numbers, state.blocksize);
        let table = of.need(&format!("{name}.quant_map"), name)?.is(&[FileDtype::F32], &[16])?;
        let scales = of.need(&format!("{name}.absmax"), name)?;
        let of_scales = if double { FileDtype::U8 } else { FileDtype::F32 };
        let scales = scales.is(&[of_scales], &[blocks])?;
        let nested = match (double, state.nested_blocksize, state.nested_offset) {
            (false, ..) => None,
            (true, Some(block), Some(offset)) if block > 0 => Some(Nested {
                scales: of
                    .need(&format!("{name}.nested_absmax"), name)?
                    .is(&[FileDtype::F32], &[parts(blocks, block)])?,
                table: of.need(&format!("{name}.nested_quant_map"), name)?.is(&[FileDtype::F32], &[256])?,
                block,
                offset,
            }),
            _ => bail!("it does not say how its scales are quantised"),
        };
        Ok(Four { shape: state.shape, weight, scales, table, block: state.blocksize, nested })
    }
}

impl Map for Four {
    fn shape(&self) -> Vec<i64> {
        self.shape.clone()
    }

    fn bring(&self, stored: &Shards, device: Device) -> Result<Box<dyn Rows>> {
        let scales = stored.stored(&self.scales.name, device)?;
        let scales = match &self.nested {
            None => scales,
            Some(nested) => {
                let table = stored.read(&nested.table.name, Kind::Float, device)?;
                let of_blocks = stored.read(&nested.scales.name, Kind::Float, device)?;
                let block = blocks(0, scales.size()[0], nested.block, device)?;
                let values = table.f_index_select(0, &scales.f_to_kind(Kind::Int64)?)?;
                values.f_mul(&of_blocks.f_index_select(0, &block)?)?.f_add_scalar(nested.offset)?
            }
        };
        let bytes = Tensor::f_from_slice(stored.view(&self.weight.name)?.data())?.f_to_device(device)?;
        let table = stored.read(&self.table.name, Kind::Float, device)?;
        Ok(Box::new(BroughtFour { bytes, table, scales, block: self.block, width: self.shape[1] }))
    }
}

struct BroughtFour {
    /// Two indices per byte, the first in the higher bits.
    bytes: Tensor,
    table: Tensor,
    scales: Tensor,
    block: i64,
    width: i64,
}

impl Rows for BroughtFour {
    fn rows(&self, from: i64, n: i64) -> Result<Tensor> {
        let (first, numbers) = (from * self.width, n * self.width);
        // `first` is even because `from` is.
        let bytes = self.bytes.f_narrow(0, first / 2, parts(numbers, 2))?.f_to_kind(Kind::Int64)?;
        let high = bytes.f_divide_scalar_mode(16, "floor")?;
        let low = bytes.f_bitwise_and(15)?;
        let indices = Tensor::f_stack(&[high, low], 1)?.f_view(-1)?.f_narrow(0, 0, numbers)?;
        let block = blocks(first, numbers, self.block, self.bytes.device())?;
        let values = self.table.f_index_select(0, &indices)?;
        Ok(values.f_mul(&self.scales.f_index_select(0, &block)?)?.f_view([n, self.width])?)
    }
}

/// The block index of each of the elements `from..from + n`.
fn blocks(from: i64, n: i64, block: i64, device: Device) -> Result<Tensor> {
    let numbers = Tensor::f_arange_start(from, from + n, (Kind::Int64, device))?;
    Ok(numbers.f_divide_scalar_mode(block, "floor")?)
}
