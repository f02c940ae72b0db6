//! The order of a heat map's rows by average-linkage clustering, deterministic. Independent of what the rows are.

/// The leaves of an average-linkage clustering from left to right; `distances`: symmetric, `[n, n]`.
///
/// The two closest clusters are joined first; ties go to the earlier rows. When two clusters are joined, each is
/// flipped so that their nearest ends are adjacent; on a tie they are not flipped.
pub fn order(distances: &[f64], n: usize) -> Vec<usize> {
    let at = |a: usize, b: usize| distances[a * n + b];
    let mut clusters: Vec<Vec<usize>> = (0..n).map(|leaf| vec![leaf]).collect();
    let mut between: Vec<Vec<f64>> = (0..n).map(|a| (0..n).map(|b| at(a, b)).collect()).collect();
    while clusters.len() > 1 {
        let (mut left, mut right) = (0, 1);
        for a in 0..clusters.len() {
            for b in a + 1..clusters.len() {
                if between[a][b] < between[left][right] {
                    (left, right) = (a, b);
                }
            }
        }
        let (n_left, n_right) = (clusters[left].len() as f64, clusters[right].len() as f64);
        let mean = |(l, r): (&f64, &f64)| (n_left * l + n_right * r) / (n_left + n_right);
        let means: Vec<f64> = between[left].iter().zip(&between[right]).map(mean).collect();
        for (row, mean) in between.iter_mut().zip(&means) {
            row[left] = *mean;
        }
        between[left] = means;
        between.remove(right);
        for row in &mut between {
            row.remove(right);
        }
        let taken = clusters.remove(right);
        clusters[left] = join(&clusters[left], taken, at);
    }
    clusters.pop().unwrap_or_default()
}

/// `left` followed by `right`, each forwards or reversed so that the adjacent ends are nearest.
fn join(left: &[usize], right: Vec<usize>, at: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let turned = |row: &[usize], turn: bool| match turn {
        false => row.to_vec(),
        true => row.iter().rev().copied().collect(),
    };
    let options = [(false, false), (true, false), (false, true), (true, true)];
    let joined = options.map(|(l, r)| (turned(left, l), turned(&right, r)));
    let gap = |(l, r): &(Vec<usize>, Vec<usize>)| at(l[l.len() - 1], r[0]);
    let mut best = &joined[0];
    for option in &joined[1..] {
        if gap(option) < gap(best) {
            best = option;
        }
    }
    [best.0.as_slice(), &best.1].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_come_in_the_lines_order() {
        let check = |points: &[f64], want: &[usize]| {
            let n = points.len();
            let distances: Vec<f64> = (0..n * n).map(|i| (points[i / n] - points[i % n]).abs()).collect();
            assert_eq!(order(&distances, n), want, "{points:?}");
        };
        check(&[], &[]);
        check(&[4.0], &[0]);
        check(&[0.0, 10.0, 1.0, 11.5, 3.0], &[0, 2, 4, 1, 3]);
        check(&[5.0, 5.0, 5.0], &[0, 1, 2]);
    }

    #[test]
    fn linkage_is_the_average() {
        // {0, 1} at distance 1. Distances to 2 are 2 and 6, mean 4; 2 to 3: 3.5. Single linkage would join 2 to {0, 1}
        // first, average linkage joins 2 and 3.
        #[rustfmt::skip]
        let distances = [
            0.0, 1.0, 2.0, 9.0,
            1.0, 0.0, 6.0, 9.0,
            2.0, 6.0, 0.0, 3.5,
            9.0, 9.0, 3.5, 0.0,
        ];
        assert_eq!(order(&distances, 4), [1, 0, 2, 3]);
    }
}
