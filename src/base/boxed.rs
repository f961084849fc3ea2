//! An array in a box. Unlike a slice its index needs no comparison where the compiler sees that it is less than the
//! length; and unlike what `Box::new` takes, it is never on a stack, where a large one may not fit. Above: tables that
//! each packet or connection reads.

/// An array of what `make` returns for each index.
pub(crate) fn boxed_array<T, const N: usize>(make: impl FnMut(usize) -> T) -> Box<[T; N]> {
    let all: Box<[T]> = (0..N).map(make).collect();
    match all.try_into() {
        Ok(all) => all,
        Err(_) => unreachable!("it was made with N elements"),
    }
}

#[cfg(test)]
mod tests {
    use super::boxed_array;

    #[test]
    fn elements_are_in_their_places() {
        assert_eq!(*boxed_array::<_, 3>(|i| i * i), [0, 1, 4]);
        // More than the stack of a test has.
        assert_eq!(boxed_array::<_, { 8 << 20 }>(|_| 1_u8).len(), 8 << 20);
    }
}
