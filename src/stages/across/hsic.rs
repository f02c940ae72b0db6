//! Inner products of centred Gram matrices, biased and debiased. Independent of what the rows are.

/// A Gram matrix `[n, n]` in float64 with the sums that its products need.
pub struct Gram {
    n: usize,
    values: Vec<f64>,
    /// The sum of each row.
    sums: Vec<f64>,
}

/// The two estimates of one quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimates {
    pub plain: f64,
    pub debiased: f64,
}

impl Gram {
    /// From a symmetric matrix, row by row.
    pub fn new(values: Vec<f64>, n: usize) -> Gram {
        let sums = values.chunks_exact(n.max(1)).map(|row| row.iter().sum()).collect();
        Gram { n, values, sums }
    }

    /// The Gram matrix of a subset of the rows.
    pub fn of(&self, rows: &[usize]) -> Gram {
        let row = |&i: &usize| rows.iter().map(move |&j| self.values[i * self.n + j]);
        Gram::new(rows.iter().flat_map(row).collect(), rows.len())
    }

    fn diagonal(&self, i: usize) -> f64 {
        self.values[i * self.n + i]
    }

    /// `tr(K H L H)` with the centring matrix `H`, which is `(n - 1)^2` times the biased estimate of the
    /// Hilbert-Schmidt independence criterion (Gretton et al. 2005), and `n (n - 3)` times the unbiased one (Song et
    /// al. 2012, equation 5). `order`: the row of `other` paired with each row of `self`.
    fn products(&self, other: &Gram, order: &[usize]) -> Estimates {
        let n = self.n;
        let (mut all, mut diagonal) = (0.0, 0.0);
        let (mut sums, mut inner) = (0.0, 0.0);
        for (i, &at) in order.iter().enumerate() {
            let (mine, theirs) = (&self.values[i * n..][..n], &other.values[at * n..][..n]);
            all += mine.iter().zip(order).map(|(x, &j)| x * theirs[j]).sum::<f64>();
            let (k, l) = (self.diagonal(i), other.diagonal(at));
            diagonal += k * l;
            sums += self.sums[i] * other.sums[at];
            inner += (self.sums[i] - k) * (other.sums[at] - l);
        }
        let total = |gram: &Gram| gram.sums.iter().sum::<f64>();
        let off = |gram: &Gram| total(gram) - (0..n).map(|i| gram.diagonal(i)).sum::<f64>();
        let n = n as f64;
        Estimates {
            plain: all - 2.0 / n * sums + total(self) * total(other) / (n * n),
            debiased: (all - diagonal) + off(self) * off(other) / ((n - 1.0) * (n - 2.0))
                - 2.0 / (n - 2.0) * inner,
        }
    }

    /// The products of the matrix with itself.
    pub fn own(&self) -> Estimates {
        self.products(self, &(0..self.n).collect::<Vec<_>>())
    }
}

/// Centred kernel alignment of two Gram matrices of the same rows in the same order, at least four, whose products
/// with themselves are `own`. `order`: the row of the second paired with each row of the first, `None` for the given
/// order. The debiased alignment is 0 where a side has no structure beyond its noise.
pub fn cka(a: &Gram, b: &Gram, own: [Estimates; 2], order: Option<&[usize]>) -> Estimates {
    let plainly: Vec<usize> = (0..a.n).collect();
    let both = a.products(b, order.unwrap_or(&plainly));
    let over = |both: f64, a: f64, b: f64| if a > 0.0 && b > 0.0 { both / (a * b).sqrt() } else { 0.0 };
    Estimates {
        plain: over(both.plain, own[0].plain, own[1].plain),
        debiased: over(both.debiased, own[0].debiased, own[1].debiased),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of small integers.
    fn gram(rows: &[[f64; 3]]) -> Gram {
        let dot = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        Gram::new(rows.iter().flat_map(|a| rows.iter().map(move |b| dot(a, b))).collect(), rows.len())
    }

    const X: [[f64; 3]; 6] = [
        [1.0, 2.0, 0.0],
        [0.0, 1.0, 3.0],
        [2.0, 0.0, 1.0],
        [4.0, 1.0, 1.0],
        [1.0, 5.0, 2.0],
        [0.0, 2.0, 2.0],
    ];
    const Y: [[f64; 3]; 6] = [
        [0.0, 1.0, 1.0],
        [2.0, 1.0, 0.0],
        [1.0, 3.0, 0.0],
        [5.0, 0.0, 2.0],
        [1.0, 1.0, 4.0],
        [3.0, 2.0, 1.0],
    ];

    /// With NumPy from the formulas with explicit matrices, `tr(K H L H)` and the three terms of Song et al.:
    /// `K = X @ X.T; H = np.eye(6) - 1/6; np.trace(K@H@L@H)`; with `k`, `l` of zero diagonal and `o = np.ones(6)`:
    /// `np.trace(k@l) + (o@k@o)*(o@l@o)/20 - 2/4*(o@k@l@o)`.
    #[test]
    fn alignment_is_that_of_the_formulas() {
        let (k, l) = (gram(&X), gram(&Y));
        let found = cka(&k, &l, [k.own(), l.own()], None);
        assert!((found.plain - PLAIN).abs() < 1e-12, "{}", found.plain);
        assert!((found.debiased - DEBIASED).abs() < 1e-12, "{}", found.debiased);
        let order = [3, 1, 0, 2, 5, 4];
        let shuffled = l.of(&order);
        let paired = cka(&k, &l, [k.own(), l.own()], Some(&order));
        let moved = cka(&k, &shuffled, [k.own(), shuffled.own()], None);
        assert!((paired.plain - moved.plain).abs() < 1e-12);
        assert!((paired.debiased - moved.debiased).abs() < 1e-12);
    }

    const PLAIN: f64 = 0.474_382_862_972_470_2;
    const DEBIASED: f64 = -0.393_954_640_025_895_14;
}
