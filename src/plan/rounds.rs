//! The order of a source's stories and their division into shards. The first shards hold the first stories of every
//! emotion, so that a run with fewer stories per emotion computes units that the full run also has.

use std::ops::Range;

use crate::stages::stories::Item;

/// Number of stories of each of `emotions` in a shard of at most `shard` stories; at least one.
pub fn depth(emotions: usize, shard: usize) -> usize {
    (shard / emotions.max(1)).max(1)
}

/// Sorts `items`, which are grouped by emotion with equally many of each, in the order of their shards: the first
/// [`depth`] stories of every emotion, grouped by emotion, then the next ones. If all fit into one shard, the order is
/// unchanged.
pub fn order(items: Vec<Item>, emotions: usize, shard: usize) -> Vec<Item> {
    let each = items.len() / emotions.max(1);
    let depth = depth(emotions, shard);
    let mut placed: Vec<(usize, usize, Item)> = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let (emotion, place) = (index / each.max(1), index % each.max(1));
        placed.push((place / depth, emotion, item));
    }
    // The sort is stable: stories of one emotion and block stay in their order.
    placed.sort_by_key(|(block, emotion, _)| (*block, *emotion));
    placed.into_iter().map(|(_, _, item)| item).collect()
}

/// The shards of `count` stories of `emotions` in that order, each of at most `shard` stories. `limit`: only the shards
/// that hold the first `limit` stories of every emotion, rounded up to whole shards.
pub fn shards(count: usize, emotions: usize, shard: usize, limit: Option<usize>) -> Vec<Range<usize>> {
    let emotions = emotions.max(1);
    let depth = depth(emotions, shard);
    let block = emotions * depth;
    let blocks = limit.map_or(usize::MAX, |limit| limit.div_ceil(depth));
    let starts = (0..count).step_by(block).take(blocks);
    starts
        .flat_map(|start| {
            let end = start.saturating_add(block).min(count);
            (start..end).step_by(shard).map(move |first| first..first.saturating_add(shard).min(end))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn items(emotions: usize, each: usize) -> Vec<Item> {
        let of = |emotion: usize| {
            (0..each).map(move |index| Item {
                emotion: Some(format!("e{emotion:03}")),
                other: None,
                topic: None,
                index,
            })
        };
        (0..emotions).flat_map(of).collect()
    }

    /// Number of stories of each emotion in `items`.
    fn counts(items: &[Item]) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for item in items {
            *counts.entry(item.emotion.clone().unwrap()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn what_fits_into_one_shard_stays_as_it_is() {
        for (emotions, each) in [(30, 8), (1, 256), (256, 1), (4, 10)] {
            let all = items(emotions, each);
            assert_eq!(order(all.clone(), emotions, 256), all);
            let count = emotions * each;
            assert_eq!(shards(count, emotions, 256, None).as_slice(), std::slice::from_ref(&(0..count)));
        }
    }

    #[test]
    fn a_shard_may_be_of_any_size() {
        assert_eq!(shards(10, 3, usize::MAX, Some(1)).as_slice(), std::slice::from_ref(&(0..10)));
        assert_eq!(shards(10, 3, 1, Some(2)).len(), 6);
        assert!(shards(0, 3, 256, None).is_empty());
    }

    #[test]
    fn the_first_shards_hold_the_first_stories_of_every_emotion() {
        for (emotions, each, shard) in
            [(30, 10, 256), (9, 1200, 256), (171, 5, 256), (300, 3, 256), (4, 7, 5), (3, 4, 1)]
        {
            let ordered = order(items(emotions, each), emotions, shard);
            let full = shards(ordered.len(), emotions, shard, None);
            // They are contiguous and hold every story.
            assert_eq!(full.iter().map(Range::len).sum::<usize>(), emotions * each);
            assert!(full.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(full.iter().all(|range| !range.is_empty() && range.len() <= shard));
            for limit in 1..=each {
                let limited = shards(ordered.len(), emotions, shard, Some(limit));
                assert_eq!(limited, full[..limited.len()], "a prefix");
                let kept = &ordered[..limited.last().unwrap().end];
                let wanted = limit.next_multiple_of(depth(emotions, shard)).min(each);
                let counts = counts(kept);
                assert_eq!(counts.len(), emotions);
                assert!(
                    counts.values().all(|n| *n == wanted),
                    "{emotions} {each} {shard} {limit}: {counts:?}"
                );
                assert!(kept.iter().all(|item| item.index < wanted));
            }
        }
    }
}
