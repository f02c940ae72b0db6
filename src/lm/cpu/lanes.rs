//! SIMD registers: the numbers that one instruction processes at once. Independent of what is computed with them.

use std::arch::x86_64::*;

/// A register of fp32 numbers.
///
/// Safety of all functions: the processor has the instructions (see [`Registers::run`]), and pointers lead to
/// [`Lanes::N`] numbers.
pub trait Lanes: Copy {
    /// Numbers in a register.
    const N: usize;
    /// Rows of a tile of products, next to its [`COLUMNS`] columns, so that its sums stay in registers.
    const ROWS: usize;
    /// `x` in all lanes.
    unsafe fn splat(x: f32) -> Self;
    /// Loads from memory.
    unsafe fn load(from: *const f32) -> Self;
    /// Loads bf16 numbers from memory.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// Stores to memory.
    unsafe fn store(self, to: *mut f32);
    /// `self * by + to`, rounded once.
    unsafe fn mul_add(self, by: Self, to: Self) -> Self;
    /// `self + other`
    unsafe fn add(self, other: Self) -> Self;
    /// `self * other`
    unsafe fn mul(self, other: Self) -> Self;
    /// `self / other`
    unsafe fn div(self, other: Self) -> Self;
    /// The larger of two; `other` if one of them is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller of two; `other` if one of them is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// The nearest integer.
    unsafe fn round(self) -> Self;
    /// 2 to the power of integers from -126 to 127.
    unsafe fn power_of_two(self) -> Self;
    /// The sum over the lanes of each of four registers, in an order that is the same for all.
    unsafe fn sums(of: [Self; COLUMNS]) -> [f32; COLUMNS];

    /// The sum over its lanes.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let nothing = unsafe { Self::splat(0.0) };
        unsafe { Self::sums([self, nothing, nothing, nothing])[0] }
    }

    /// Loads the first `n` numbers, at most a register's; the other lanes are zero.
    #[inline(always)]
    unsafe fn load_some(from: *const f32, n: usize) -> Self {
        unsafe { if n >= Self::N { Self::load(from) } else { Self::load(some(from, n, 0.0).as_ptr()) } }
    }

    /// Stores the first `n` numbers, at most a register's.
    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, n: usize) {
        unsafe {
            if n >= Self::N {
                return self.store(to);
            }
            let mut all = [0.0; WIDEST];
            self.store(all.as_mut_ptr());
            std::ptr::copy_nonoverlapping(all.as_ptr(), to, n);
        }
    }
}

/// `n` numbers, fewer than [`WIDEST`], padded with `zero`.
///
/// # Safety
/// `from` points to `n` numbers.
#[inline(always)]
pub unsafe fn some<T: Copy>(from: *const T, n: usize, zero: T) -> [T; WIDEST] {
    let mut out = [zero; WIDEST];
    unsafe { std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), n) }
    out
}

/// Columns of a tile of products.
pub const COLUMNS: usize = 4;

/// The largest value of [`Lanes::N`].
pub const WIDEST: usize = 16;

/// A computation that is compiled for each kind of register. `run` must be `#[inline(always)]`.
pub trait Kernel {
    /// Runs it.
    ///
    /// # Safety
    /// The processor has the instructions of `L`.
    unsafe fn run<L: Lanes>(&self);
}

/// Kinds of registers that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registers {
    /// 16 numbers each (AVX-512F).
    Avx512,
    /// 8 numbers each (AVX2 with FMA).
    Avx2,
}

impl Registers {
    /// The kinds that this processor has, the widest first; empty on older processors.
    pub fn here() -> Vec<Registers> {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2 && is_x86_feature_detected!("avx512f");
        [avx512.then_some(Registers::Avx512), avx2.then_some(Registers::Avx2)].into_iter().flatten().collect()
    }

    /// Their name.
    pub fn name(self) -> &'static str {
        match self {
            Registers::Avx512 => "avx512",
            Registers::Avx2 => "avx2",
        }
    }

    /// Their name if MKL computes products of many rows.
    pub fn name_with_mkl(self) -> &'static str {
        match self {
            Registers::Avx512 => "avx512-mkl",
            Registers::Avx2 => "avx2-mkl",
        }
    }

    /// Runs `kernel` with these registers, which this processor must have.
    pub fn run(self, kernel: &impl Kernel) {
        #[target_feature(enable = "avx512f")]
        fn wide(kernel: &impl Kernel) {
            // SAFETY: this function is compiled for a processor that has them.
            unsafe { kernel.run::<__m512>() }
        }
        #[target_feature(enable = "avx2,fma")]
        fn narrow(kernel: &impl Kernel) {
            // SAFETY: the same.
            unsafe { kernel.run::<__m256>() }
        }
        let narrow_here = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        match self {
            // SAFETY: the processor's features have been checked.
            Registers::Avx512 if is_x86_feature_detected!("avx512f") => unsafe { wide(kernel) },
            // SAFETY: the same.
            Registers::Avx2 if narrow_here => unsafe { narrow(kernel) },
            _ => panic!("this processor has no {} registers", self.name()),
        }
    }
}

/// Whether this is an Intel processor.
pub fn is_intel() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

/// `e` to the power of `x`, clamped to -87 to 87, to a relative error of 2e-7.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn exp<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's guarantees.
    unsafe {
        let (power, more) = exp_parts(x);
        more.add(L::splat(1.0)).mul(power)
    }
}

/// The hyperbolic tangent, to a relative error of 3e-7.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn tanh<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's guarantees.
    unsafe {
        let (power, more) = exp_parts(x.add(x));
        // e^2x - 1, without cancellation for small x.
        let less = more.mul_add(power, power.add(L::splat(-1.0)));
        less.div(less.add(L::splat(2.0)))
    }
}

/// `e^x` as `2^n` and `e^f - 1` with an integer `n` and `|f| <= ln(2) / 2`, the latter by the polynomial of Cephes'
/// `expf`.
#[inline(always)]
unsafe fn exp_parts<L: Lanes>(x: L) -> (L, L) {
    // SAFETY: the caller's guarantees.
    unsafe {
        // NaN stays NaN.
        let x = L::splat(87.0).min(L::splat(-87.0).max(x));
        let n = x.mul(L::splat(std::f32::consts::LOG2_E)).round();
        // ln(2) in two parts; the first has so few digits that its product with n is exact.
        let f = n.mul_add(L::splat(-0.693_359_4), x);
        let f = n.mul_add(L::splat(2.121_944_4e-4), f);
        let mut p = L::splat(1.987_569_1e-4);
        for term in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = p.mul_add(f, L::splat(term));
        }
        (n.power_of_two(), p.mul_add(f.mul(f), f))
    }
}

impl Lanes for __m512 {
    const N: usize = 16;
    const ROWS: usize = 4;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // bf16 is the upper half of fp32.
        unsafe {
            _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())), 16))
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, to: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, by, to) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm512_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { _mm512_div_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm512_max_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { _mm512_min_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe { _mm512_scalef_ps(_mm512_set1_ps(1.0), self) }
    }
    #[inline(always)]
    unsafe fn sums(of: [Self; COLUMNS]) -> [f32; COLUMNS] {
        unsafe {
            let pair = |a, b| _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let (first, second) = (pair(of[0], of[1]), pair(of[2], of[3]));
            let low = _mm512_shuffle_ps::<0b01_00_01_00>(first, second);
            let high = _mm512_shuffle_ps::<0b11_10_11_10>(first, second);
            let all = _mm512_castps_pd(_mm512_add_ps(low, high));
            let halves = [_mm512_castpd512_pd256(all), _mm512_extractf64x4_pd::<1>(all)];
            four(_mm256_add_ps(_mm256_castpd_ps(halves[0]), _mm256_castpd_ps(halves[1])))
        }
    }
}

impl Lanes for __m256 {
    const N: usize = 8;
    const ROWS: usize = 2;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        unsafe {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()))))
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, to: Self) -> Self {
        unsafe { _mm256_fmadd_ps(self, by, to) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm256_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm256_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { _mm256_div_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm256_max_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { _mm256_min_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn sums(of: [Self; COLUMNS]) -> [f32; COLUMNS] {
        unsafe {
            let pair = |a, b| _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (first, second) = (pair(of[0], of[1]), pair(of[2], of[3]));
            let low = _mm256_shuffle_ps::<0b01_00_01_00>(first, second);
            let high = _mm256_shuffle_ps::<0b11_10_11_10>(first, second);
            four(_mm256_add_ps(low, high))
        }
    }
}

/// The sums of the two halves.
#[inline(always)]
unsafe fn four(halves: __m256) -> [f32; COLUMNS] {
    let mut out = [0.0; COLUMNS];
    unsafe {
        let sum = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
        _mm_storeu_ps(out.as_mut_ptr(), sum);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp;

    impl Kernel for Exp {
        #[inline(always)]
        unsafe fn run<L: Lanes>(&self) {
            for step in 0..2000 {
                let x = -90.0 + step as f32 * 0.05;
                let mut got = [0.0; WIDEST];
                unsafe { exp(L::splat(x)).store(got.as_mut_ptr()) }
                let want = f64::from(x.clamp(-87.0, 87.0)).exp();
                assert!((f64::from(got[L::N - 1]) / want - 1.0).abs() < 2e-7, "{x}: {} and {want}", got[0]);
            }
        }
    }

    #[test]
    fn exponentials_are_right() {
        Registers::here().into_iter().for_each(|on| on.run(&Exp));
    }

    struct Tanh;

    impl Kernel for Tanh {
        #[inline(always)]
        unsafe fn run<L: Lanes>(&self) {
            for step in -2000..2000 {
                let x = (step as f32 * 0.01).powi(3) * 0.1;
                let mut got = [0.0; WIDEST];
                unsafe { tanh(L::splat(x)).store(got.as_mut_ptr()) }
                let (got, want) = (f64::from(got[0]), f64::from(x).tanh());
                assert!((got - want).abs() <= 3e-7 * want.abs(), "{x}: {got} and {want}");
            }
        }
    }

    #[test]
    fn hyperbolic_tangents_are_right() {
        Registers::here().into_iter().for_each(|on| on.run(&Tanh));
    }

    struct Sums;

    impl Kernel for Sums {
        #[inline(always)]
        unsafe fn run<L: Lanes>(&self) {
            let rows = [1.0f32, 100.0, 10_000.0, 1_000_000.0]
                .map(|unit| [0, 1].map(|more| unit * (1 + more) as f32));
            let row = |[first, other]: [f32; 2]| {
                let mut row = [other; WIDEST];
                row[0] = first;
                unsafe { L::load(row.as_ptr()) }
            };
            let want = rows.map(|[first, other]| first + other * (L::N - 1) as f32);
            assert_eq!(unsafe { L::sums(rows.map(row)) }, want);
        }
    }

    #[test]
    fn four_sums_at_once() {
        Registers::here().into_iter().for_each(|on| on.run(&Sums));
    }
}
