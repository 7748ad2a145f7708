//! What is embedded in the product, by its object file.

use filter_ebpf::{layout, measure};
use kit::objects::Object;

#[test]
fn the_product_has_no_program_that_only_measures() {
    assert_eq!(Object::Product.programs().unwrap(), [layout::PROGRAM, layout::PROGRAM_LINEAR]);
    let mut measuring = [measure::PROGRAM_BARE, measure::PROGRAM_DRAWS, measure::PROGRAM_LOOKUPS];
    measuring.sort_unstable();
    assert_eq!(Object::Measuring.programs().unwrap(), measuring);
}
