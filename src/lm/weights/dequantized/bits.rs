//! Unpacks integers of a few bits from 32-bit words. Independent of any format.

use anyhow::Result;
use tch::{Kind, Tensor};

/// 32-bit words as non-negative 64-bit integers.
pub fn words(stored: &Tensor) -> Result<Tensor> {
    Ok(stored.f_to_kind(Kind::Int64)?.f_bitwise_and(0xffff_ffff_i64)?)
}

/// Unpacks integers of `bits` bits (a divisor of 32, or 3), stored consecutively in the words along axis `axis`, the
/// first in the lowest bits; those of 3 bits continue across the borders within each run of three words. The axis
/// grows by a factor of `32 / bits`.
pub fn unpack(words: &Tensor, bits: i64, axis: i64) -> Result<Tensor> {
    let count = words.size()[axis as usize];
    let per_run = if bits == 3 { 32 } else { 32 / bits };
    let words_per_run = per_run * bits / 32;
    let places = Tensor::f_arange(count / words_per_run * per_run, (Kind::Int64, words.device()))?;
    let bit = places * bits;
    let word = bit.f_divide_scalar_mode(32, "floor")?;
    let offset = bit.f_remainder(32)?;
    let mut shape = vec![1; words.dim()];
    shape[axis as usize] = -1;
    let (low, offset) = (words.f_index_select(axis, &word)?, offset.f_view(shape.as_slice())?);
    let low = low.f_bitwise_right_shift(&offset)?;
    let mask = (1_i64 << bits) - 1;
    if 32 % bits == 0 {
        return Ok(low.f_bitwise_and(mask)?);
    }
    // The bits of an integer that are in the next word; if there are none, the shift leaves zeros in the relevant
    // bits.
    let next = (word + 1).f_clamp_max(count - 1)?;
    let high = words.f_index_select(axis, &next)?.f_bitwise_left_shift(&(32 - offset))?;
    Ok(low.f_bitwise_or_tensor(&high)?.f_bitwise_and(mask)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integers are packed bit by bit here.
    #[test]
    fn integers_come_out_as_they_went_in() {
        for bits in [2_i64, 3, 4, 8] {
            let numbers: Vec<i64> = (0..64).map(|i| (i * 7 + 3 * i * i) % (1 << bits)).collect();
            let mut packed = vec![0_u32; 64 * bits as usize / 32];
            for (at, number) in numbers.iter().enumerate() {
                for bit in 0..bits as usize {
                    let place = at * bits as usize + bit;
                    packed[place / 32] |= ((*number as u32 >> bit) & 1) << (place % 32);
                }
            }
            let stored: Vec<i32> = packed.iter().map(|&word| word as i32).collect();
            let words = words(&Tensor::from_slice(&stored)).unwrap();
            let columns = words.unsqueeze(1).repeat([1, 2]);
            for (words, axis) in [(words.unsqueeze(0), 1), (columns, 0)] {
                let got = unpack(&words, bits, axis).unwrap().select(1 - axis, 0);
                assert_eq!(Vec::<i64>::try_from(got).unwrap(), numbers, "{bits} bits along {axis}");
            }
        }
    }
}
