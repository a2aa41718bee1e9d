//! The bytes of a TD report: where each field lies.
//!
//! Source: Intel, "TDX DCAP Quoting Library API" §A.3.2 (TDX 1.0), §A.4.2 (TDX 1.5, and extended).

/// The bytes of a report of TDX 1.0.
pub(super) const TD_1_0_BYTES: usize = 584;
/// The bytes of a report of TDX 1.5.
pub(super) const TD_1_5_BYTES: usize = 648;
/// The bytes of an extended report of TDX 1.5.
pub(super) const TD_1_5_EXTENDED_BYTES: usize = 885;

/// A TD report, of one of the lengths above.
#[derive(Clone, Copy)]
pub(super) struct TdReport<'a>(pub(super) &'a [u8]);

impl<'a> TdReport<'a> {
    fn field<const N: usize>(self, offset: usize) -> &'a [u8; N] {
        self.0[offset..].first_chunk().expect("every field of this name lies inside every report")
    }

    /// A field that shorter reports do not have.
    fn later_field<const N: usize>(self, offset: usize) -> Option<&'a [u8; N]> {
        self.0.get(offset..)?.first_chunk()
    }

    /// Security versions of TDX when the TD was launched.
    pub(super) fn tee_tcb_svn(self) -> &'a [u8; 16] {
        self.field(0)
    }

    pub(super) fn mr_seam(self) -> &'a [u8; 48] {
        self.field(16)
    }

    pub(super) fn mr_signer_seam(self) -> &'a [u8; 48] {
        self.field(64)
    }

    pub(super) fn seam_attributes(self) -> &'a [u8; 8] {
        self.field(112)
    }

    pub(super) fn attributes(self) -> u64 {
        u64::from_le_bytes(*self.field(120))
    }

    pub(super) fn xfam(self) -> &'a [u8; 8] {
        self.field(128)
    }

    pub(super) fn mrtd(self) -> &'a [u8; 48] {
        self.field(136)
    }

    pub(super) fn mr_config_id(self) -> &'a [u8; 48] {
        self.field(184)
    }

    pub(super) fn mr_owner(self) -> &'a [u8; 48] {
        self.field(232)
    }

    pub(super) fn mr_owner_config(self) -> &'a [u8; 48] {
        self.field(280)
    }

    pub(super) fn rtmrs(self) -> [&'a [u8; 48]; 4] {
        [328, 376, 424, 472].map(|offset| self.field(offset))
    }

    pub(super) fn report_data(self) -> &'a [u8; 64] {
        self.field(520)
    }

    /// Security versions of TDX now; they differ after the TDX module was replaced under the TD.
    pub(super) fn tee_tcb_svn_now(self) -> Option<&'a [u8; 16]> {
        self.later_field(584)
    }

    /// The service TDs that are bound to this one: when it was made, and now.
    pub(super) fn mr_service_tds(self) -> [Option<&'a [u8; 48]>; 2] {
        [self.later_field(600), self.later_field(829)]
    }

    /// This TD since its launch.
    pub(super) fn td_id(self) -> Option<&'a [u8; 32]> {
        self.later_field(649)
    }
}
