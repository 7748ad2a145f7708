//! The same checks for every engine.

/// Makes a test of each function, which takes the [`filter_user::model::Engine`], for either engine: `flat::NAME`
/// and `lpm::NAME`.
#[macro_export]
macro_rules! for_each_engine {
    ($($check:ident)*) => {
        mod flat {
            $(#[test]
            fn $check() {
                super::$check(::filter_user::model::Engine::Flat);
            })*
        }
        mod lpm {
            $(#[test]
            fn $check() {
                super::$check(::filter_user::model::Engine::Lpm);
            })*
        }
    };
}
