//! Converts the stored blocks of a GGUF file to the elements of a tensor. Knows types and rows; independent of their
//! use.

use super::{Gguf, Stored};
use anamnesis::{Bf16Out, F16Out, F32Out, GgufType, OutputElement, dequantize_gguf_blocks};
use anyhow::{Context, Result, anyhow, bail, ensure};
use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use tch::{Device, Kind, Tensor};

/// Bytes that one thread reads and converts at a time.
const CHUNK: usize = 1 << 18;

/// The requested rows of a stored tensor, viewed as a matrix along its fastest axis, and their order.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The requested rows.
    pub range: Range<usize>,
    /// Number of equal parts of the range within which rows 0, 1, 2, ... are stored as the pairs that are rotated
    /// together: row `i` of the first half of a part is stored before row `i` of its second half.
    pub interleaved: Option<usize>,
}

/// An error unless gguf-py can read `kind`; the other types never occur in files, or are too new.
pub fn ensure_known(kind: GgufType) -> Result<()> {
    use GgufType::*;
    match kind {
        F32 | F16 | BF16 | F64 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q2_K | Q3_K | Q4_K | Q5_K | Q6_K
        | TQ1_0 | TQ2_0 | MXFP4 | NVFP4 | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ1_S | IQ1_M
        | IQ4_NL | IQ4_XS => Ok(()),
        other => bail!("numbers of type {other} are not read"),
    }
}

impl Gguf {
    /// Reads `rows` of `tensor` as `kind`, `[rows, columns]`.
    ///
    /// # Errors
    /// A file that cannot be read or has been truncated; sizes that are not whole blocks.
    pub fn read(&self, tensor: &Stored, rows: &Rows, kind: Kind) -> Result<Tensor> {
        self.read_rows(tensor, rows, kind).with_context(|| {
            format!("tensor `{}` of {}", tensor.name, self.files[tensor.part].path.display())
        })
    }

    fn read_rows(&self, tensor: &Stored, rows: &Rows, kind: Kind) -> Result<Tensor> {
        let (count, columns) = (rows.range.len(), tensor.columns(rows));
        let stored_row = tensor.row_bytes(columns)?;
        let row = columns * kind.elt_size_in_bytes();
        let out = Tensor::f_empty([count as i64, columns as i64], (kind, Device::Cpu))?;
        if out.numel() == 0 {
            return Ok(out);
        }
        let group = match rows.interleaved {
            None => (CHUNK / stored_row).clamp(1, count),
            Some(parts) => {
                ensure!(
                    parts > 0 && count.is_multiple_of(2 * parts),
                    "{count} rows are no {parts} heads of pairs"
                );
                count / parts
            }
        };
        let file = self.files[tensor.part].file.file();
        // SAFETY: the tensor is new, contiguous, of `count * row` bytes, and nothing else has it before it is
        // returned.
        let bytes = unsafe { std::slice::from_raw_parts_mut(out.data_ptr().cast::<u8>(), count * row) };
        bytes.par_chunks_mut(group * row).enumerate().try_for_each(|(at, out)| -> Result<()> {
            let mut stored = vec![0; out.len() / row * stored_row];
            let first = rows.range.start + at * group;
            let offset = tensor.offset + (first * stored_row) as u64;
            file.read_exact_at(&mut stored, offset)
                .context("the file has become shorter, or cannot be read")?;
            if rows.interleaved.is_none() {
                return convert(tensor.kind, kind, &stored, out);
            }
            for (i, stored) in stored.chunks_exact(stored_row).enumerate() {
                let to = i / 2 + if i % 2 == 0 { 0 } else { group / 2 };
                convert(tensor.kind, kind, stored, &mut out[to * row..(to + 1) * row])?;
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// All elements of a small tensor, such as factors of rotary frequencies.
    pub fn numbers(&self, tensor: &Stored) -> Result<Vec<f32>> {
        let all = Rows { range: 0..tensor.rows(), interleaved: None };
        Ok(self.read(tensor, &all, Kind::Float)?.reshape(-1).try_into()?)
    }
}

impl Stored {
    /// Rows of the matrix along its fastest axis; a vector is one row.
    pub fn rows(&self) -> usize {
        self.shape[..self.shape.len().saturating_sub(1)].iter().product::<i64>() as usize
    }

    /// Columns of that matrix; 1 for a vector whose entries are to be reordered.
    fn columns(&self, rows: &Rows) -> usize {
        let last = self.shape.last().map_or(1, |&n| n as usize);
        if self.shape.len() <= 1 && rows.interleaved.is_some() { 1 } else { last }
    }

    fn row_bytes(&self, columns: usize) -> Result<usize> {
        let bytes = self.kind.byte_size_for_n_elements(columns as u64).map_err(|e| anyhow!("{e}"))?;
        Ok(bytes as usize)
    }
}

/// Converts stored numbers of type `from` to type `to`, through float32, with one rounding to nearest, ties to even.
fn convert(from: GgufType, to: Kind, stored: &[u8], out: &mut [u8]) -> Result<()> {
    match (from, to) {
        (GgufType::F32, Kind::Float) | (GgufType::F16, Kind::Half) | (GgufType::BF16, Kind::BFloat16) => {
            out.copy_from_slice(stored);
            Ok(())
        }
        (GgufType::F32, _) => each(stored, out, to, f32::from_le_bytes),
        (GgufType::F16, _) => each(stored, out, to, |bytes| f16::from_le_bytes(bytes).to_f32()),
        (GgufType::BF16, _) => each(stored, out, to, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        (GgufType::F64, _) => each(stored, out, to, |bytes| f64::from_le_bytes(bytes) as f32),
        (_, Kind::Float) => blocks::<F32Out>(from, stored, out),
        (_, Kind::Half) => blocks::<F16Out>(from, stored, out),
        (_, Kind::BFloat16) => blocks::<Bf16Out>(from, stored, out),
        (_, other) => bail!("numbers are not read as {other:?}"),
    }
}

/// Converts unquantised numbers of `N` bytes each.
fn each<const N: usize>(
    stored: &[u8],
    out: &mut [u8],
    to: Kind,
    read: impl Fn([u8; N]) -> f32,
) -> Result<()> {
    let numbers = stored.as_chunks::<N>().0.iter().map(|bytes| read(*bytes));
    match to {
        Kind::Float => fill(out, numbers.map(f32::to_le_bytes)),
        Kind::Half => fill(out, numbers.map(|x| f16::from_f32(x).to_le_bytes())),
        Kind::BFloat16 => fill(out, numbers.map(|x| bf16::from_f32(x).to_le_bytes())),
        other => bail!("numbers are not read as {other:?}"),
    }
    Ok(())
}

fn fill<const N: usize>(out: &mut [u8], numbers: impl Iterator<Item = [u8; N]>) {
    out.as_chunks_mut::<N>().0.iter_mut().zip(numbers).for_each(|(to, number)| *to = number);
}

/// Dequantises block by block.
fn blocks<E: OutputElement>(from: GgufType, stored: &[u8], out: &mut [u8]) -> Result<()> {
    let (count, mut rest) = (out.len() / E::BYTES, out);
    let written = dequantize_gguf_blocks::<E, _>(stored, from, count, |block| {
        let (to, after) = std::mem::take(&mut rest).split_at_mut(block.len());
        to.copy_from_slice(block);
        rest = after;
        Ok(())
    });
    written.map_err(|e| anyhow!("{e}"))
}
