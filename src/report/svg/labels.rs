//! Placement of point labels: greedy, nearest place first, such that no label covers a point or another label.
//! Independent of how they are drawn.

/// A rectangle with sides along the axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Rect {
    /// Whether the two rectangles overlap.
    pub fn overlaps(&self, other: &Rect) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn inside(&self, other: &Rect) -> bool {
        self.left >= other.left
            && self.right <= other.right
            && self.top >= other.top
            && self.bottom <= other.bottom
    }

    /// The point of the rectangle nearest to `(x, y)`.
    fn nearest(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (x.clamp(self.left, self.right), y.clamp(self.top, self.bottom))
    }

    fn distance(&self, point: (f64, f64)) -> f64 {
        distance(self.nearest(point), point)
    }

    fn grown(&self, by: f64) -> Rect {
        Rect { left: self.left - by, top: self.top - by, right: self.right + by, bottom: self.bottom + by }
    }

    /// Whether the segment from `a` to `b` intersects the rectangle (Liang and Barsky).
    fn meets(&self, a: (f64, f64), b: (f64, f64)) -> bool {
        let (mut enter, mut leave) = (0.0f64, 1.0f64);
        for (start, delta, low, high) in
            [(a.0, b.0 - a.0, self.left, self.right), (a.1, b.1 - a.1, self.top, self.bottom)]
        {
            if delta == 0.0 {
                if start < low || start > high {
                    return false;
                }
                continue;
            }
            let (t, u) = ((low - start) / delta, (high - start) / delta);
            enter = enter.max(t.min(u));
            leave = leave.min(t.max(u));
        }
        enter <= leave
    }
}

/// The position of a label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    pub rect: Rect,
    /// A leader line from the point's rim to the label, if the label is not next to its point.
    pub leader: Option<((f64, f64), (f64, f64))>,
}

/// Gaps between point and label, in the drawing's units, nearest first; from the third on with a leader line.
const GAPS: [f64; 9] = [2.5, 5.0, 11.0, 17.0, 24.0, 32.0, 41.0, 52.0, 66.0];
const LEADER_FROM: usize = 2;

/// Directions tried at each gap, in eighths of a turn counted clockwise from the right, most readable first.
const NEAR: [f64; 8] = [0.0, 7.0, 1.0, 4.0, 6.0, 2.0, 5.0, 3.0];
const FAR: [f64; 16] = [0.0, 7.0, 1.0, 4.0, 6.0, 2.0, 5.0, 3.0, 7.5, 0.5, 4.5, 3.5, 6.5, 1.5, 5.5, 2.5];

/// Places a label of the given width and height near each point that has one, inside `bounds`; `None` if there is no
/// room. Points are discs of radius `radius`. Deterministic.
pub fn place(
    points: &[(f64, f64)],
    sizes: &[Option<(f64, f64)>],
    radius: f64,
    bounds: Rect,
) -> Vec<Option<Placed>> {
    let mut placed: Vec<Option<Placed>> = vec![None; points.len()];
    for index in crowded_first(points) {
        let Some(size) = sizes[index] else { continue };
        placed[index] = candidates(points[index], size, radius)
            .filter(|c| c.rect.inside(&bounds))
            .find(|c| free(c, index, points, radius, &placed));
    }
    placed
}

/// Points with the most neighbours come first, since they have the fewest free places.
fn crowded_first(points: &[(f64, f64)]) -> Vec<usize> {
    let neighbours: Vec<usize> =
        points.iter().map(|&p| points.iter().filter(|&&q| distance(p, q) < 60.0).count()).collect();
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(neighbours[i]), i));
    order
}

fn candidates(point: (f64, f64), size: (f64, f64), radius: f64) -> impl Iterator<Item = Placed> {
    GAPS.iter().enumerate().flat_map(move |(ring, &gap)| {
        let directions: &[f64] = if ring < LEADER_FROM { &NEAR } else { &FAR };
        directions.iter().map(move |&eighths| {
            let angle = eighths * std::f64::consts::FRAC_PI_4;
            let (ux, uy) = (angle.cos(), angle.sin());
            // The label's nearest side or corner is `gap` away from the rim.
            let (x, y) = (
                point.0 + ux * (radius + gap) + (ux * 1.6).clamp(-1.0, 1.0) * size.0 / 2.0,
                point.1 + uy * (radius + gap) + (uy * 1.6).clamp(-1.0, 1.0) * size.1 / 2.0,
            );
            let rect = Rect {
                left: x - size.0 / 2.0,
                top: y - size.1 / 2.0,
                right: x + size.0 / 2.0,
                bottom: y + size.1 / 2.0,
            };
            let leader = (ring >= LEADER_FROM).then(|| {
                let end = rect.nearest(point);
                let share = (radius + 1.0) / distance(point, end).max(radius + 1.0);
                ((point.0 + (end.0 - point.0) * share, point.1 + (end.1 - point.1) * share), end)
            });
            Placed { rect, leader }
        })
    })
}

/// Whether a position is free: the label and its leader line intersect no point, label or leader line, and no other
/// point is so near that it could be mistaken for the label's own.
fn free(
    candidate: &Placed,
    own: usize,
    points: &[(f64, f64)],
    radius: f64,
    placed: &[Option<Placed>],
) -> bool {
    let reach = candidate.rect.distance(points[own]);
    let clear_of_points = points.iter().enumerate().all(|(i, &p)| {
        let gap = candidate.rect.distance(p);
        if i == own {
            return gap >= radius;
        }
        let mistaken = candidate.leader.is_none() && gap < reach;
        let crossed = candidate.leader.is_some_and(|(a, b)| to_segment(p, a, b) < radius + 1.0);
        gap >= radius + 1.5 && !mistaken && !crossed
    });
    clear_of_points
        && placed.iter().flatten().all(|other| {
            !candidate.rect.grown(1.0).overlaps(&other.rect)
                && other.leader.is_none_or(|(a, b)| !candidate.rect.grown(1.0).meets(a, b))
                && candidate.leader.is_none_or(|(a, b)| {
                    !other.rect.grown(1.0).meets(a, b) && other.leader.is_none_or(|(c, d)| !cross(a, b, c, d))
                })
        })
}

fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

fn to_segment(p: (f64, f64), a: (f64, f64), b: (f64, f64)) -> f64 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = dx * dx + dy * dy;
    let t = if length > 0.0 { ((p.0 - a.0) * dx + (p.1 - a.1) * dy) / length } else { 0.0 }.clamp(0.0, 1.0);
    distance(p, (a.0 + t * dx, a.1 + t * dy))
}

fn cross(a: (f64, f64), b: (f64, f64), c: (f64, f64), d: (f64, f64)) -> bool {
    let side =
        |p: (f64, f64), q: (f64, f64), r: (f64, f64)| (q.0 - p.0) * (r.1 - p.1) - (q.1 - p.1) * (r.0 - p.0);
    side(a, b, c) * side(a, b, d) < 0.0 && side(c, d, a) * side(c, d, b) < 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Rect = Rect { left: 0.0, top: 0.0, right: 400.0, bottom: 300.0 };

    #[test]
    fn a_lonely_label_stands_right_of_its_point() {
        let got = place(&[(100.0, 100.0)], &[Some((40.0, 10.0))], 3.0, BOUNDS)[0].unwrap();
        // Left side: 100 + radius 3 + gap 2.5; centred on the point's height.
        assert_eq!(got.rect, Rect { left: 105.5, top: 95.0, right: 145.5, bottom: 105.0 });
        assert_eq!(got.leader, None);
    }

    #[test]
    fn at_the_right_border_it_stands_left() {
        let got = place(&[(390.0, 150.0)], &[Some((40.0, 10.0))], 3.0, BOUNDS)[0].unwrap();
        assert_eq!(got.rect.right, 384.5);
    }

    #[test]
    fn a_point_without_a_label_keeps_others_off() {
        let points = [(100.0, 100.0), (125.0, 100.0)];
        let got = place(&points, &[Some((40.0, 10.0)), None], 3.0, BOUNDS);
        let rect = got[0].unwrap().rect;
        assert!(rect.distance(points[1]) >= 3.0 && got[1].is_none(), "{got:?}");
    }

    /// 171 points in clusters, from a fixed sequence: no placed label overlaps anything.
    #[test]
    fn nothing_overlaps() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        let bounds = Rect { left: 0.0, top: 0.0, right: 800.0, bottom: 600.0 };
        let points: Vec<_> = (0..171)
            .map(|i| {
                let (cx, cy) = ((i % 4) as f64 * 180.0 + 60.0, (i % 3) as f64 * 180.0 + 60.0);
                (cx + random() * 150.0, cy + random() * 120.0)
            })
            .collect();
        let sizes: Vec<_> = (0..171).map(|_| Some((25.0 + 40.0 * random(), 10.0))).collect();
        let placed = place(&points, &sizes, 3.0, bounds);
        assert_eq!(placed, place(&points, &sizes, 3.0, bounds));
        let labels: Vec<_> = placed.iter().flatten().collect();
        assert!(labels.len() > 150, "{} of 171 placed", labels.len());
        for (i, a) in labels.iter().enumerate() {
            assert!(a.rect.inside(&bounds));
            assert!(points.iter().all(|&p| a.rect.distance(p) >= 3.0));
            assert!(labels[..i].iter().all(|b| !a.rect.overlaps(&b.rect)));
        }
    }

    #[test]
    fn segments_and_rectangles() {
        let rect = Rect { left: 10.0, top: 10.0, right: 20.0, bottom: 20.0 };
        assert!(rect.meets((0.0, 15.0), (30.0, 15.0)));
        assert!(!rect.meets((0.0, 15.0), (9.0, 15.0)));
        assert!(!rect.meets((0.0, 25.0), (25.0, 0.1 + 25.0)));
        assert!(cross((0.0, 0.0), (2.0, 2.0), (0.0, 2.0), (2.0, 0.0)));
        assert!(!cross((0.0, 0.0), (1.0, 1.0), (2.0, 0.0), (3.0, 1.0)));
        assert_eq!(to_segment((5.0, 3.0), (0.0, 0.0), (10.0, 0.0)), 3.0);
    }
}
