//! Models that are run a second time in another precision, to see how far that moves the claims. Opens no file.

use super::Model;
use crate::config::Experiment;
use crate::lm::Dtype;
use crate::stages::analysis::steering::nearest_two_thirds;

/// For each model that does not compute in f32: an f32 copy, and an unchanged copy that gets the same stories. For f32
/// models: an unchanged copy if they are compared with such a model.
pub(super) fn of(experiment: &Experiment, models: &[Model]) -> Vec<Model> {
    let is_rounded = |model: &Model| model.compute_dtype != Dtype::F32;
    if experiment.check_precision == 0 || !models.iter().any(is_rounded) {
        return Vec::new();
    }
    let read_again = |(at, model): (usize, &Model)| {
        let mut dtypes = vec![model.compute_dtype];
        match is_rounded(model) {
            true => dtypes.push(Dtype::F32),
            false if experiment.across.is_empty() => dtypes.clear(),
            false => {}
        }
        let check = |compute_dtype: Dtype| Model {
            name: format!("{}@{}", model.name, compute_dtype.name()),
            checks: Some(at),
            compute_dtype,
            layers: vec![nearest_two_thirds(&model.layers, model.spec.n_layers())],
            ..model.clone()
        };
        dtypes.into_iter().map(check).collect::<Vec<_>>()
    };
    models.iter().enumerate().flat_map(read_again).collect()
}
