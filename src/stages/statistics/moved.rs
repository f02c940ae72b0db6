//! Sums of the entrywise product of two matrices, one of them with its rows and columns permuted, as thousands of
//! shuffles need them. Independent of what is shuffled.

/// Columns with separate partial sums, which are added at the end.
const LANES: usize = 16;

/// The sum over all entries of `fixed[a, b] moved[rows[a], columns[b]]`; both are `[rows, columns]`.
///
/// # Panics
/// If a row or column index is out of range, or the shapes differ.
pub fn product(fixed: &[f32], moved: &[f32], rows: &[u32], columns: &[u32]) -> f64 {
    let width = columns.len();
    assert!(fixed.len() == rows.len() * width && moved.len() == fixed.len(), "matrices of one shape");
    assert!(
        rows.iter().all(|&at| (at as usize) < rows.len()) && columns.iter().all(|&at| (at as usize) < width)
    );
    let mut sum = 0.0;
    for (fixed, &row) in fixed.chunks_exact(width.max(1)).zip(rows) {
        let moved = &moved[row as usize * width..][..width];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor supports it, and all column indices are in range.
            sum += f64::from(unsafe { avx512(fixed, moved, columns) });
            continue;
        }
        sum += f64::from(plain(fixed, moved, columns));
    }
    sum
}

/// The sum for one row.
fn plain(fixed: &[f32], moved: &[f32], columns: &[u32]) -> f32 {
    let mut sums = [0f32; LANES];
    for (fixed, columns) in fixed.chunks(LANES).zip(columns.chunks(LANES)) {
        for (sum, (x, &at)) in sums.iter_mut().zip(fixed.iter().zip(columns)) {
            *sum += x * moved[at as usize];
        }
    }
    total(sums)
}

#[inline(always)]
fn total(sums: [f32; LANES]) -> f32 {
    sums.iter().sum()
}

/// The same sums in one register.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(fixed: &[f32], moved: &[f32], columns: &[u32]) -> f32 {
    use std::arch::x86_64::*;
    let mut sums = _mm512_setzero_ps();
    for from in (0..columns.len()).step_by(LANES) {
        let here = (1u32 << LANES.min(columns.len() - from)) - 1;
        let here = here as __mmask16;
        // SAFETY: masked lanes are not read.
        unsafe {
            let at = _mm512_maskz_loadu_epi32(here, columns.as_ptr().add(from).cast());
            let x = _mm512_maskz_loadu_ps(here, fixed.as_ptr().add(from));
            let y = _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), here, at, moved.as_ptr().cast());
            sums = _mm512_add_ps(sums, _mm512_mul_ps(x, y));
        }
    }
    let mut all = [0f32; LANES];
    // SAFETY: `all` has as many elements as the register.
    unsafe { _mm512_storeu_ps(all.as_mut_ptr(), sums) };
    total(all)
}

#[cfg(test)]
mod tests {
    use super::super::draws::Draws;
    use super::*;

    #[test]
    fn products_of_moved_entries_by_hand_and_with_any_registers() {
        // 1 * 8 + 2 * 7 + 3 * 6 + 4 * 5: rows and columns are swapped.
        assert_eq!(product(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], &[1, 0], &[1, 0]), 60.0);
        let mut draws = Draws::new("moved", &[]);
        for (n, width) in [(1, 1), (3, 15), (5, 16), (7, 17), (4, 171)] {
            let mut matrix = || (0..n * width).map(|_| draws.normal() as f32).collect::<Vec<_>>();
            let (fixed, moved) = (matrix(), matrix());
            let mut order = |n: usize| draws.shuffled(n).into_iter().map(|at| at as u32).collect::<Vec<_>>();
            let (rows, columns) = (order(n), order(width));
            let row = |a: usize| (&fixed[a * width..][..width], &moved[rows[a] as usize * width..][..width]);
            let plainly: f64 = (0..n).map(|a| f64::from(plain(row(a).0, row(a).1, &columns))).sum();
            assert_eq!(product(&fixed, &moved, &rows, &columns), plainly);
            let wide = |a: usize| {
                let each = row(a).0.iter().zip(&columns);
                each.map(|(x, &b)| f64::from(*x) * f64::from(row(a).1[b as usize])).sum::<f64>()
            };
            assert!(((0..n).map(wide).sum::<f64>() - plainly).abs() < 1e-5 * (n * width) as f64);
        }
    }
}
