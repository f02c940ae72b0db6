//! GPTQ and AWQ: integers packed into 32-bit words, with a scale and a zero point per group of input entries. A weight
//! is (integer - zero point) * scale, which fp32 holds exactly if the scales have 16 bits.

use super::bits::{unpack, words};
use super::{Map, Part, Parts, Rows, parts};
use crate::lm::quantization::GptqZeros;
use crate::lm::weights::{Shards, TensorSource};
use anyhow::{Result, bail, ensure};
use safetensors::Dtype as FileDtype;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

const FLOATS: [FileDtype; 3] = [FileDtype::F16, FileDtype::BF16, FileDtype::F32];
const WORDS: [FileDtype; 2] = [FileDtype::I32, FileDtype::U32];

/// Index of the integer in a word for each column of AWQ, in the layout of its GEMM kernel.
const AWQ_ORDER: [i64; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// How the integers are packed into words.
#[derive(Clone, Copy)]
enum Layout {
    /// Along the input; `one` is added to the words of the zero points, which adds 1 to each zero point (0 if nothing
    /// is to be added).
    Gptq { bits: i64, one: i64 },
    /// Along the output, interleaved; 4 bits.
    Awq,
}

struct Packed {
    layout: Layout,
    qweight: Part,
    qzeros: Part,
    scales: Part,
    /// The group of each input entry; `None`: consecutive entries form a group.
    groups: Option<Part>,
    /// Input entries per group.
    group: i64,
    output: i64,
    input: i64,
}

/// Finds every module with a `qweight` packed by GPTQ.
pub fn gptq(
    of: &mut Parts,
    bits: u8,
    group: Option<usize>,
    zeros: GptqZeros,
) -> Result<HashMap<String, Box<dyn Map>>> {
    let bits = i64::from(bits);
    let one = match zeros {
        GptqZeros::Plain => 0,
        // As in GPTQModel: added to whole words, which also restores the borrows of the subtraction.
        GptqZeros::LessOne => (0..32 / bits).fold(0, |word, at| word | 1 << (at * bits)),
    };
    maps(of, Layout::Gptq { bits, one }, group)
}

/// Finds every module with a `qweight` packed by AWQ.
pub fn awq(of: &mut Parts, group: Option<usize>) -> Result<HashMap<String, Box<dyn Map>>> {
    maps(of, Layout::Awq, group)
}

fn maps(of: &mut Parts, layout: Layout, group: Option<usize>) -> Result<HashMap<String, Box<dyn Map>>> {
    let mut maps: HashMap<String, Box<dyn Map>> = HashMap::new();
    for module in of.before(".qweight") {
        maps.insert(format!("{module}.weight"), Box::new(Packed::take(of, &module, layout, group)?));
    }
    Ok(maps)
}

impl Packed {
    /// Takes the tensors of `module` out of `of`.
    fn take(of: &mut Parts, module: &str, layout: Layout, group: Option<usize>) -> Result<Packed> {
        let qweight = of.need(&format!("{module}.qweight"), module)?;
        let [first, second] = qweight.shape[..] else {
            bail!("tensor `{}` has shape {:?}, not two axes", qweight.name, qweight.shape)
        };
        let (output, input, zeros, groups) = match layout {
            Layout::Gptq { bits, .. } => {
                // Integers fill only whole runs of words: three words for 3 bits, otherwise one.
                let run = if bits == 3 { 3 } else { 1 };
                ensure!(
                    first % run == 0 && second * bits % (32 * run) == 0,
                    "`{module}`: {first} words and {second} columns are not whole words of {bits} bits"
                );
                let input = first * 32 / bits;
                let groups = of.take(&format!("{module}.g_idx"));
                let groups =
                    groups.map(|part| part.is(&[FileDtype::I32, FileDtype::I64], &[input])).transpose()?;
                (second, input, second * bits / 32, groups)
            }
            Layout::Awq => (8 * second, first, second, None),
        };
        let group = group.map_or(Ok(input.max(1)), i64::try_from)?;
        let count = parts(input, group);
        let qweight = qweight.is(&WORDS, &[first, second])?;
        let qzeros = of.need(&format!("{module}.qzeros"), module)?.is(&WORDS, &[count, zeros])?;
        let scales = of.need(&format!("{module}.scales"), module)?.is(&FLOATS, &[count, output])?;
        Ok(Packed { layout, qweight, qzeros, scales, groups, group, output, input })
    }
}

impl Map for Packed {
    fn shape(&self) -> Vec<i64> {
        vec![self.output, self.input]
    }

    fn bring(&self, stored: &Shards, device: Device) -> Result<Box<dyn Rows>> {
        let count = self.scales.shape[0];
        let groups = match &self.groups {
            Some(part) => stored.stored(&part.name, device)?.f_to_kind(Kind::Int64)?,
            None => Tensor::f_arange(self.input, (Kind::Int64, device))?
                .f_divide_scalar_mode(self.group, "floor")?,
        };
        if self.input > 0 {
            let (low, high) = (groups.min().int64_value(&[]), groups.max().int64_value(&[]));
            let name = || self.groups.as_ref().map_or(String::new(), |part| part.name.clone());
            ensure!(low >= 0 && high < count, "tensor `{}` names group {low} to {high} of {count}", name());
        }
        Ok(Box::new(Brought {
            layout: self.layout,
            qweight: stored.stored(&self.qweight.name, device)?,
            qzeros: words(&stored.stored(&self.qzeros.name, device)?)?,
            scales: stored.read(&self.scales.name, Kind::Float, device)?,
            groups,
        }))
    }
}

struct Brought {
    layout: Layout,
    qweight: Tensor,
    qzeros: Tensor,
    /// `[groups, output]`
    scales: Tensor,
    /// `[input]`
    groups: Tensor,
}

impl Rows for Brought {
    fn rows(&self, from: i64, n: i64) -> Result<Tensor> {
        // `[input, n]` and `[groups, n]`
        let (integers, zeros) = match self.layout {
            Layout::Gptq { bits, one } => {
                let integers = unpack(&words(&self.qweight.f_narrow(1, from, n)?)?, bits, 0)?;
                let zeros = self.qzeros.f_narrow(1, from * bits / 32, n * bits / 32)?;
                (integers, unpack(&words(&(zeros + one))?, bits, 1)?)
            }
            Layout::Awq => {
                let columns = |packed: &Tensor| -> Result<Tensor> {
                    let plain = unpack(&words(&packed.f_narrow(1, from / 8, n / 8)?)?, 4, 1)?;
                    let order = Tensor::from_slice(&AWQ_ORDER).to_device(packed.device());
                    let ordered = plain.f_view([-1, n / 8, 8])?.f_index_select(2, &order)?;
                    Ok(ordered.f_view([-1, n])?)
                };
                (columns(&self.qweight)?, columns(&self.qzeros)?)
            }
        };
        let of_group = |per_group: &Tensor| per_group.f_index_select(0, &self.groups);
        let above = integers.f_sub(&of_group(&zeros)?)?.f_to_kind(Kind::Float)?;
        let scales = of_group(&self.scales.f_narrow(1, from, n)?)?;
        Ok(above.f_mul(&scales)?.f_tr()?)
    }
}
