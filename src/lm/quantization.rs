//! How a checkpoint's weights are quantised. Independent of the tensors' content and of how `config.json` describes it.

use serde::Serialize;
use std::fmt;

/// A quantisation method for the linear maps of a model, with the parameters that its reader needs in addition to the
/// tensors. The tensors themselves show which maps are quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Quantization {
    /// 8-bit floats (e4m3), each matrix with a tensor of scales (`weight_scale_inv`).
    Fp8 {
        /// Rows and columns that share a scale; `None`: one scale for the matrix.
        block: Option<[usize; 2]>,
    },
    /// GPTQ: packed integers (`qweight`, `qzeros`, `scales`, `g_idx`).
    Gptq {
        /// Bits of a weight: 2, 3, 4 or 8.
        bits: u8,
        /// Input entries that share a scale; `None`: all of them.
        group: Option<usize>,
        /// Whether entries were quantised in order of their activations, which `g_idx` holds.
        by_activation: bool,
        /// How zero points are stored.
        zeros: GptqZeros,
    },
    /// AWQ in the layout of its GEMM kernel: packed integers (`qweight`, `qzeros`, `scales`).
    Awq {
        /// Bits of a weight.
        bits: u8,
        /// Input entries that share a scale; `None`: all of them.
        group: Option<usize>,
    },
    /// bitsandbytes' LLM.int8(): 8-bit integers with a scale for each row (`SCB`).
    BnbInt8,
    /// bitsandbytes' 4-bit formats: indices into a table of 16 values, with a scale for each block (`absmax`).
    Bnb4 {
        /// Which table.
        table: Bnb4Table,
        /// Whether the scales are quantised too.
        double: bool,
    },
}

/// How GPTQ's zero points are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GptqZeros {
    /// Minus one: the format `gptq`.
    LessOne,
    /// Unchanged: the format `gptq_v2`.
    Plain,
}

/// The 16 values of bitsandbytes' 4-bit formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bnb4Table {
    /// Quantiles of a normal distribution.
    Nf4,
    /// 4-bit floats.
    Fp4,
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Quantization::Fp8 { block: Some([rows, columns]) } => {
                write!(f, "FP8 (e4m3, blocks of {rows} by {columns})")
            }
            Quantization::Fp8 { block: None } => write!(f, "FP8 (e4m3, one scale a matrix)"),
            Quantization::Gptq { bits, group, .. } => write!(f, "GPTQ ({bits} bits{})", Groups(group)),
            Quantization::Awq { bits, group } => write!(f, "AWQ ({bits} bits{})", Groups(group)),
            Quantization::BnbInt8 => write!(f, "bitsandbytes (8 bits)"),
            Quantization::Bnb4 { table: Bnb4Table::Nf4, .. } => write!(f, "bitsandbytes (nf4)"),
            Quantization::Bnb4 { table: Bnb4Table::Fp4, .. } => write!(f, "bitsandbytes (fp4)"),
        }
    }
}

/// For people: the number of input entries that share a scale.
struct Groups(Option<usize>);

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |size| write!(f, ", groups of {size}"))
    }
}
