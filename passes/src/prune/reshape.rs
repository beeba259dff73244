//! Factors that the axes of a reshape's operand and result are products of.

/// A factor: of one axis of the operand, and of one of the result. Row-major order runs through all factors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Factor {
    pub(crate) extent: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// The fewest factors of both shapes, without those of 1, which axes of extent 1 have none of. `None` where boundaries of axes
/// cross, as between 2x3 and 3x2, and for empty tensors.
pub(crate) fn factors(from: &[usize], to: &[usize]) -> Option<Vec<Factor>> {
    let mut factors = Vec::new();
    let mut sides = [from, to].map(|extents| extents.iter().copied().enumerate().filter(|&(_, extent)| extent != 1));
    let mut current = sides.each_mut().map(Iterator::next);
    loop {
        match current {
            [Some((from, a)), Some((to, b))] if a > 0 && b > 0 => {
                let extent = a.min(b);
                if a % extent != 0 || b % extent != 0 {
                    return None;
                }
                factors.push(Factor { extent, from, to });
                for (side, now) in sides.iter_mut().zip(&mut current) {
                    *now = match *now {
                        Some((axis, left)) if left > extent => Some((axis, left / extent)),
                        _ => side.next(),
                    };
                }
            }
            [None, None] => return Some(factors),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(from: &[usize], to: &[usize]) -> Option<Vec<[usize; 3]>> {
        factors(from, to).map(|factors| factors.iter().map(|f| [f.extent, f.from, f.to]).collect())
    }

    #[test]
    fn axes_split_and_join() {
        assert_eq!(split(&[1, 6, 4], &[1, 2, 3, 4]), Some(vec![[2, 1, 1], [3, 1, 2], [4, 2, 3]]));
        assert_eq!(split(&[2, 3, 4], &[6, 4, 1]), Some(vec![[2, 0, 0], [3, 1, 0], [4, 2, 1]]));
        assert_eq!(split(&[8, 6, 5], &[2, 24, 5]), Some(vec![[2, 0, 0], [4, 0, 1], [6, 1, 1], [5, 2, 2]]));
    }

    #[test]
    fn crossing_boundaries_have_no_factors() {
        assert_eq!(split(&[2, 3], &[3, 2]), None);
        assert_eq!(split(&[0, 3], &[3, 0]), None);
    }
}
