//! Every claim of an experiment: which claims are reported, their significance adjusted for multiple tests, and their
//! table. Independent of the individual analyses.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::across::{self, Compared};
use super::{Analysed, Shown, unchecked};
use crate::lm::Layer;
use crate::stages::analysis::Claim;
use crate::stages::analysis::claim::adjusted;
use crate::stages::analysis::steering::nearest_two_thirds;
use crate::store::table::{Column, Table};

/// The name of the claims' table.
pub const CLAIMS: &str = "claims";

/// A claim with the analysis that makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub analysis: String,
    pub claim: Claim,
    /// The claim's p adjusted over all tests of the same set of vectors at the same layer (Benjamini and Hochberg);
    /// for a claim on two sets, over all reported claims of the variant, because layers of different models do not
    /// correspond.
    pub q: Option<f64>,
    /// The p adjusted over the layers at which the same claim is made about the same set.
    pub q_layers: Option<f64>,
    /// Whether the claim is at the layer, among these, that is nearest to two thirds of the depth.
    pub is_reported: bool,
    /// The effect of the floating-point type, if it was checked: the interval is widened by it.
    pub precision: Option<Precision>,
    /// Why the check was impossible, if it was.
    pub unchecked: Option<String>,
}

/// The same claim in the model's own floating-point type and in f32, on the same stories.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// The f32 estimate minus the estimate in the model's own type, in the claim's unit.
    pub difference: f64,
    /// The p-values in the model's own type and in f32, if the claim is tested.
    pub p: Option<[f64; 2]>,
}

impl Precision {
    /// Whether only one of the two is significant at `level`.
    pub fn decides(&self, level: f64) -> bool {
        self.p.is_some_and(|p| (p[0] <= level) != (p[1] <= level))
    }
}

impl Found {
    /// The set of vectors that the claim is about, and the variant; for a claim on two sets the set is `None`.
    pub fn set(&self) -> Set<'_> {
        let Claim { model, stories, axes, other, .. } = &self.claim;
        (other.is_none().then_some((model, stories)), axes)
    }

    /// The set and the variant; for a claim on two sets both are identified.
    pub fn place(&self) -> Place<'_> {
        let Claim { model, stories, axes, other, .. } = &self.claim;
        (model, stories, axes, other.as_deref())
    }

    /// `from_token=50, denoise=none`: the variant of a sweep; empty without a sweep.
    pub fn variant(&self) -> String {
        let axes = self.claim.axes.iter().map(|(axis, value)| format!("{axis}={value}"));
        axes.collect::<Vec<_>>().join(", ")
    }
}

/// See [`Found::set`].
pub type Set<'a> = (Option<(&'a str, &'a str)>, &'a [(String, String)]);

/// See [`Found::place`].
pub type Place<'a> = (&'a str, &'a str, &'a [(String, String)], Option<&'a str>);

/// All claims of `analyses` and on `pairs`, at every layer.
///
/// # Errors
/// A table lacks a required column, or belongs to a model that the experiment does not have.
pub fn all(shown: &Shown, analyses: &[Analysed], pairs: &[Compared]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let checks = checks(shown)?;
    let single = analyses.iter().map(|of| (&of.name, &of.analysis, &of.tables));
    let of_two = pairs.iter().map(|of| (&of.name, &of.across, &of.tables));
    for (name, analysis, tables) in single.chain(of_two) {
        let claims = analysis.claims(tables)?.into_iter();
        found.extend(claims.map(|claim| Found {
            analysis: name.clone(),
            claim,
            q: None,
            q_layers: None,
            is_reported: false,
            precision: None,
            unchecked: None,
        }));
    }
    let unchecked = unchecked::all(shown)?;
    for found in &mut found {
        found.unchecked = unchecked.iter().find(|check| check.is_of(found)).map(|check| check.why.clone());
        if found.unchecked.is_none() {
            check(found, &checks);
        }
    }
    judge(&mut found, &|model| blocks(shown, model))?;
    Ok(found)
}

/// A claim computed to check the arithmetic: whether it is in f32, the analysis, and the claim with the name of the
/// checked model.
type Check = (bool, String, Claim);

fn checks(shown: &Shown) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for in_f32 in [false, true] {
        let (single, pairs) = (shown.checks(in_f32)?, across::compared(shown, Some(in_f32))?);
        let single = single.iter().map(|of| (&of.name, &of.analysis, &of.tables));
        let of_two = pairs.iter().map(|of| (&of.name, &of.across, &of.tables));
        for (name, analysis, tables) in single.chain(of_two) {
            let claims = analysis.claims(tables)?.into_iter();
            checks.extend(claims.map(|claim| (in_f32, name.clone(), claim)));
        }
    }
    Ok(checks)
}

/// Records the effect of the floating-point type on a claim, if it was checked, and widens the claim's interval by
/// it.
fn check(found: &mut Found, checks: &[Check]) {
    let Found { analysis, claim, .. } = &*found;
    let of = |of: &Claim| (of.model.clone(), of.stories.clone(), of.axes.clone(), of.other.clone());
    let same = |wanted: bool| {
        let is_same = |(in_f32, by, other): &&Check| {
            let what = other.what == claim.what && other.layer == claim.layer;
            *in_f32 == wanted && by == analysis && what && of(other) == of(claim)
        };
        checks.iter().find(is_same).map(|(.., claim)| claim)
    };
    let Some(in_f32) = same(true) else { return };
    // Where the check read all stories, the computation in the model's own type is not repeated.
    let own = same(false).unwrap_or(claim);
    let difference = in_f32.estimate - own.estimate;
    let p = own.p().zip(in_f32.p()).map(|(own, in_f32)| [own, in_f32]);
    found.precision = Some(Precision { difference, p });
    if let Some((ends, _)) = &mut found.claim.interval
        && difference.is_finite()
    {
        ends.low -= difference.abs();
        ends.high += difference.abs();
    }
}

/// The number of blocks of the model with this name.
pub fn blocks(shown: &Shown, model: &str) -> Result<usize> {
    let known = shown.resolved.models.iter().find(|m| m.name == model);
    let known = known.with_context(|| format!("a table of the unknown model `{model}`"))?;
    Ok(known.spec.n_layers())
}

/// Sets the adjusted p-values and which claims are reported.
fn judge(found: &mut [Found], blocks: &dyn Fn(&str) -> Result<usize>) -> Result<()> {
    let mut of_claim: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, Found { analysis, claim, .. }) in found.iter().enumerate() {
        let set = (claim.model.clone(), claim.stories.clone(), claim.axes.clone(), claim.other.clone());
        of_claim.entry((set, analysis.clone(), claim.what.clone())).or_default().push(at);
    }
    for ((set, ..), family) in of_claim {
        let layers: Vec<Layer> = family.iter().map(|&at| found[at].claim.layer).collect();
        let wanted = nearest_two_thirds(&layers, blocks(&set.0)?);
        family.iter().for_each(|&at| found[at].is_reported = found[at].claim.layer == wanted);
        adjust(found, &family, |found| &mut found.q_layers);
    }
    let mut together: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, Found { claim, is_reported, .. }) in found.iter().enumerate() {
        let single = claim.other.is_none();
        if single || *is_reported {
            let set = single.then(|| (claim.model.clone(), claim.stories.clone(), claim.layer));
            together.entry((set, claim.axes.clone())).or_default().push(at);
        }
    }
    for family in together.into_values() {
        adjust(found, &family, |found| &mut found.q);
    }
    Ok(())
}

fn adjust(found: &mut [Found], family: &[usize], of: fn(&mut Found) -> &mut Option<f64>) {
    let tested: Vec<(usize, f64)> =
        family.iter().filter_map(|&at| Some((at, found[at].claim.p()?))).collect();
    let p: Vec<f64> = tested.iter().map(|(_, p)| *p).collect();
    for ((at, _), q) in tested.iter().zip(adjusted(&p)) {
        *of(&mut found[*at]) = Some(q);
    }
}

/// The table `claims`: one row per claim and layer.
///
/// # Errors
/// A claim on a model that the experiment does not have.
pub fn table(found: &[Found], blocks: &dyn Fn(&str) -> Result<usize>) -> Result<Table> {
    let strings = |f: &dyn Fn(&Found) -> String| Column::Str(found.iter().map(f).collect());
    let numbers = |f: &dyn Fn(&Found) -> Option<f64>| Column::OptF64(found.iter().map(f).collect());
    let depths = found.iter().map(|f| Ok(f.claim.layer.depth(blocks(&f.claim.model)?)));
    let null = |f: &Found| f.claim.null.as_ref().map_or("", |null| null.of).to_string();
    let draws = |f: &Found| f.claim.null.as_ref().map(|null| null.draws as i64);
    // Several published values are joined in the same order in each column.
    let published = |f: &Found, of: &dyn Fn(&crate::stages::analysis::Published) -> String| {
        f.claim.published.iter().map(of).collect::<Vec<_>>().join("; ")
    };
    Ok(Table::new(
        "claims/4",
        vec![
            ("model", strings(&|f| f.claim.model.clone())),
            ("stories", strings(&|f| f.claim.stories.clone())),
            ("variant", strings(&Found::variant)),
            ("other", strings(&|f| f.claim.other.clone().unwrap_or_default())),
            ("layer", Column::I32(found.iter().map(|f| f.claim.layer.number()).collect())),
            ("depth", Column::F64(depths.collect::<Result<_>>()?)),
            ("reported", Column::Bool(found.iter().map(|f| f.is_reported).collect())),
            ("analysis", strings(&|f| f.analysis.clone())),
            ("claim", strings(&|f| f.claim.what.clone())),
            ("unit", strings(&|f| f.claim.unit.to_string())),
            ("estimate", Column::F64(found.iter().map(|f| f.claim.estimate).collect())),
            ("low", numbers(&|f| f.claim.ends().map(|i| i.low))),
            ("high", numbers(&|f| f.claim.ends().map(|i| i.high))),
            ("interval", strings(&|f| f.claim.interval.map_or("", |(_, method)| method).to_string())),
            ("null", strings(&null)),
            ("null_draws", Column::OptI64(found.iter().map(draws).collect())),
            ("null_mean", numbers(&|f| f.claim.null.as_ref().and_then(|null| null.mean))),
            ("p", numbers(&|f| f.claim.p())),
            ("q", numbers(&|f| f.q)),
            ("q_layers", numbers(&|f| f.q_layers)),
            ("f32_difference", numbers(&|f| f.precision.map(|of| of.difference))),
            ("f32_p", numbers(&|f| f.precision.and_then(|of| Some(of.p?[1])))),
            ("f32_not_checked", strings(&|f| f.unchecked.clone().unwrap_or_default())),
            ("published", strings(&|f| published(f, &|p| p.value.to_string()))),
            ("published_source", strings(&|f| published(f, &|p| p.source.to_string()))),
            ("published_unlike", strings(&|f| published(f, &|p| p.but.to_string()))),
        ],
    ))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::stages::analysis::Null;
    use crate::stages::statistics::Interval;

    /// A claim on the set (model `m`, stories) at a layer with an estimate, and p if it is tested.
    pub fn found(
        analysis: &str,
        stories: &str,
        layer: Layer,
        what: &str,
        estimate: f64,
        p: Option<f64>,
    ) -> Found {
        let null = p.map(|p| Null { of: "labels shuffled", draws: 999, mean: None, p });
        let claim = Claim {
            model: "m".into(),
            stories: stories.into(),
            axes: vec![],
            layer,
            other: None,
            what: what.into(),
            unit: "",
            estimate,
            decimals: 2,
            interval: None,
            null,
            published: vec![],
        };
        Found {
            analysis: analysis.into(),
            claim,
            q: None,
            q_layers: None,
            is_reported: false,
            precision: None,
            unchecked: None,
        }
    }

    #[test]
    fn the_difference_to_f32_stands_beside_a_claim_and_in_its_interval() {
        let at = |estimate: f64, p: f64| found("a", "own", Layer::Block(1), "x", estimate, Some(p));
        let check = |in_f32: bool, of: Found| (in_f32, "a".to_string(), of.claim);
        let widened = |checks: &[Check]| {
            let mut all = at(0.5, 0.2);
            all.claim.interval = Some((Interval { low: 0.3, high: 0.6 }, "bootstrap"));
            super::check(&mut all, checks);
            let ends = all.claim.ends().unwrap();
            (all.precision, [ends.low, ends.high].map(|end| (end * 1e6).round() / 1e6))
        };
        assert_eq!(widened(&[]), (None, [0.3, 0.6]));
        // All stories were read again: compared with the claim itself.
        let (precision, ends) = widened(&[check(true, at(0.375, 0.01))]);
        assert_eq!((precision.unwrap().difference, ends), (-0.125, [0.175, 0.725]));
        assert!(precision.unwrap().decides(0.05), "within its null, but not in f32");
        // A sample of the stories was read, in both types.
        let (precision, ends) = widened(&[check(false, at(0.25, 0.3)), check(true, at(0.375, 0.4))]);
        assert_eq!((precision.unwrap().difference, ends), (0.125, [0.175, 0.725]));
        assert!(!precision.unwrap().decides(0.05));
        let elsewhere = found("a", "own", Layer::Block(2), "x", 0.9, None);
        assert_eq!(widened(&[check(true, elsewhere)]).0, None);
    }

    #[test]
    fn families_are_the_tests_of_a_set_at_a_layer_and_the_layers_of_a_claim() {
        let block = Layer::Block;
        let mut all = [
            found("a", "own", block(1), "x", 0.5, Some(0.02)),
            found("a", "own", block(2), "x", 0.5, Some(0.04)),
            found("a", "own", block(2), "y", 0.5, Some(0.01)),
            found("b", "own", block(2), "z", 0.5, None),
            found("b", "file", block(2), "x", 0.5, Some(0.03)),
        ];
        judge(&mut all, &|_| Ok(4)).unwrap();
        // (.04, .01) adjusts to .04 and .02; (.02, .04) to .04 and .04.
        assert_eq!(
            all.iter().map(|f| f.q).collect::<Vec<_>>(),
            [Some(0.02), Some(0.04), Some(0.02), None, Some(0.03)]
        );
        assert_eq!(
            all.iter().map(|f| f.q_layers).collect::<Vec<_>>(),
            [Some(0.04), Some(0.04), Some(0.01), None, Some(0.03)]
        );
        // Block 2 of 4 is nearest to two thirds.
        assert_eq!(all.iter().map(|f| f.is_reported).collect::<Vec<_>>(), [false, true, true, true, true]);
        // The reported claims on two sets form one family, whatever their layers; claims on one set are not in it.
        let mut pairs = [
            found("c", "own", block(2), "r", 0.5, Some(0.02)),
            found("c", "own", block(1), "r", 0.5, Some(0.04)),
            found("c", "own", block(3), "r", 0.5, Some(0.04)),
            found("c", "own", block(3), "s", 0.5, Some(0.01)),
        ];
        pairs.iter_mut().for_each(|found| found.claim.other = Some("m2".into()));
        pairs[2].claim.other = Some("m3".into());
        pairs[3].claim.other = None;
        judge(&mut pairs, &|_| Ok(4)).unwrap();
        assert_eq!(pairs.iter().map(|f| f.is_reported).collect::<Vec<_>>(), [true, false, true, true]);
        assert_eq!(pairs.iter().map(|f| f.q).collect::<Vec<_>>(), [Some(0.04), None, Some(0.04), Some(0.01)]);
        assert_eq!(pairs[1].q_layers, Some(0.04));
        let table = table(&all, &|_| Ok(4)).unwrap();
        assert_eq!(table.f64("depth").unwrap()[..2], [0.375, 0.625]);
        assert_eq!(table.opt_f64("p").unwrap()[3], None);
    }
}
