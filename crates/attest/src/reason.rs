//! Why evidence is refused: one row for each check.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($(#[$area_doc:meta])+ $area:ident { $($variant:ident $code:literal $sentence:literal;)+ })+) => {
        /// What a reason is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Area { $($(#[$area_doc])+ $area,)+ }

        /// Which check failed. Codes are stable: programs and policies name them.
        ///
        /// Ordered as the checks are made, so that of two reasons the greater one got further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $sentence] $variant,)+)+ }

        impl Reason {
            /// Every reason, in the order of the checks.
            pub const ALL: &[Self] = &[$($(Self::$variant,)+)+];

            /// The word that programs compare.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $($(Self::$variant => $code,)+)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $($(Self::$variant => $sentence,)+)+ }
            }

            /// What it is about.
            #[must_use]
            pub const fn area(self) -> Area {
                match self { $($(Self::$variant)|+ => Area::$area,)+ }
            }
        }
    };
}

reasons! {
    /// Evidence of any kind.
    Evidence {
        EvidenceTooLarge "evidence-too-large" "The evidence is longer than evidence of any kind is.";
        EvidenceUnknown "evidence-unknown" "The bytes are no kind of evidence that is known here.";
        ReportDataDiffers "report-data-differs" "The evidence was not made for this request: its report data is other.";
    }
    /// AMD SEV-SNP attestation reports.
    Snp {
        SnpSize "snp-size" "An SNP report has 1184 bytes.";
        SnpVersion "snp-version" "The version of the SNP report is not known.";
        SnpVersionLegacy "snp-version-legacy" "Version 2 does not name the processor and is accepted only if asked for.";
        SnpSignatureAlgorithm "snp-signature-algorithm" "The report is not signed by ECDSA P-384 with SHA-384.";
        SnpUnsigned "snp-unsigned" "The firmware was told not to sign reports.";
        SnpSignerUnknown "snp-signer-unknown" "The report names a signing key that is neither VCEK nor VLEK.";
        SnpSignatureMalformed "snp-signature-malformed" "The signature's numbers are longer than those of P-384.";
        SnpProcessorUnknown "snp-processor-unknown" "The report is from a processor that is none of Milan, Genoa and Turin.";
        SnpCertificateMissing "snp-certificate-missing" "No certificate of the key that signed (VCEK or VLEK) was given.";
        SnpCertificateMalformed "snp-certificate-malformed" "The VCEK or VLEK certificate does not say what AMD's say.";
        SnpProductDiffers "snp-product-differs" "The certificate is for another processor generation than the report or the root.";
        SnpChipMasked "snp-chip-masked" "The host hides the chip's identity, so that no VCEK can be matched with it.";
        SnpChipDiffers "snp-chip-differs" "The VCEK certificate is for another chip.";
        SnpTcbDiffers "snp-tcb-differs" "The certificate is for another firmware level than the report states.";
        SnpSignature "snp-signature" "The report was not signed by the key of the certificate.";
        SnpTcbReported "snp-tcb-reported" "The report states a higher firmware level than the one that runs.";
        SnpTcbCommitted "snp-tcb-committed" "The report commits to a higher firmware level than the one that runs.";
        SnpDebug "snp-debug" "The host may debug this VM and so read its memory.";
        SnpMigration "snp-migration" "A migration agent may move this VM, and it is not the one that is expected.";
        SnpVmpl "snp-vmpl" "The report was asked for from another privilege level than expected.";
    }
    /// Intel TDX quotes.
    Tdx {
        TdxEvidenceMalformed "tdx-evidence-malformed" "The document with the quote and its event log does not have its form.";
        TdxTee "tdx-tee" "The quote is of another TEE than TDX.";
        TdxVersion "tdx-version" "The version of the quote is neither 4 nor 5.";
        TdxKeyType "tdx-key-type" "The quote is not signed by ECDSA P-256 with SHA-256.";
        TdxVendor "tdx-vendor" "The quoting enclave is not Intel's.";
        TdxBody "tdx-body" "The quote holds no TD report of a kind that is known.";
        TdxQuoteMalformed "tdx-quote-malformed" "The parts of the quote do not fit together.";
        TdxCertificateMissing "tdx-certificate-missing" "No certificate of the platform (PCK) was given.";
        TdxCertificateMalformed "tdx-certificate-malformed" "The PCK certificate does not say what Intel's say.";
        TdxQeSignature "tdx-qe-signature" "The quoting enclave's report was not signed by the key of the PCK certificate.";
        TdxTcbInfoMissing "tdx-tcb-info-missing" "No TCB info for this kind of platform was given.";
        TdxQeIdentityMissing "tdx-qe-identity-missing" "No identity of the quoting enclave was given.";
        TdxTcbInfoSignature "tdx-tcb-info-signature" "The TCB info was not signed by Intel's key.";
        TdxQeIdentitySignature "tdx-qe-identity-signature" "The identity of the quoting enclave was not signed by Intel's key.";
        TdxCollateralMalformed "tdx-collateral-malformed" "TCB info or QE identity has a form that is not known.";
        TdxTcbInfoStale "tdx-tcb-info-stale" "The TCB info is not in force now.";
        TdxQeIdentityStale "tdx-qe-identity-stale" "The identity of the quoting enclave is not in force now.";
        TdxAttestationKey "tdx-attestation-key" "The quoting enclave does not vouch for the key that signed.";
        TdxQeDiffers "tdx-qe-differs" "The quoting enclave is another than the one that Intel names.";
        TdxSignature "tdx-signature" "The quote was not signed by the attestation key.";
        TdxDebug "tdx-debug" "The host may debug or profile this TD and so learn what its memory holds.";
        TdxMigration "tdx-migration" "The host may migrate this TD.";
        TdxServiceTd "tdx-service-td" "A service TD is bound to this TD.";
        TdxAttributes "tdx-attributes" "The TD has attributes that are not known.";
        TdxSeptVe "tdx-sept-ve" "The host may disturb this TD by taking pages away: SEPT_VE_DISABLE is not set.";
        TdxTcbUnknown "tdx-tcb-unknown" "The platform is below every level that Intel names.";
        TdxModuleUnknown "tdx-module-unknown" "Intel names no TDX module of this version.";
        TdxModuleSigner "tdx-module-signer" "The TDX module is not signed by the key that Intel names.";
        TdxModuleAttributes "tdx-module-attributes" "The TDX module has other attributes than Intel names.";
        TdxTcbStatus "tdx-tcb-status" "Intel does not call the platform's level up to date.";
        TdxTcbHardening "tdx-tcb-hardening" "Intel says that software must be hardened on this platform, which is accepted only if asked for.";
    }
    /// Quotes of TPM 2.0.
    Tpm {
        TpmEvidenceMalformed "tpm-evidence-malformed" "The document with the quote does not have its form.";
        TpmSignatureMalformed "tpm-signature-malformed" "The quote's signature does not have the form of TPM 2.0.";
        TpmSignatureAlgorithm "tpm-signature-algorithm" "The quote is not signed by RSASSA, RSAPSS or ECDSA with SHA-256, or ECDSA with SHA-384.";
        TpmKeyMalformed "tpm-key-malformed" "The attestation key is of no form or kind that quotes are signed with.";
        TpmKeyUnfit "tpm-key-unfit" "The key may sign what is no quote, or was not made in the TPM.";
        TpmKeyUntrusted "tpm-key-untrusted" "Nobody vouches for the attestation key, and no machine was enrolled with it.";
        TpmQuoteMalformed "tpm-quote-malformed" "The quote does not have the form of TPM 2.0.";
        TpmQuoteMagic "tpm-quote-magic" "The signed bytes were not made by a TPM.";
        TpmQuoteType "tpm-quote-type" "The TPM signed something that is no quote.";
        TpmBank "tpm-bank" "The quote is not over PCRs of the SHA-256 bank alone.";
        TpmSignature "tpm-signature" "The quote was not signed by the attestation key.";
        TpmPcrSelection "tpm-pcr-selection" "The PCRs that were given are not those that were quoted.";
        TpmPcrDigest "tpm-pcr-digest" "The PCRs that were given do not have the values that were quoted.";
    }
    /// Event logs of firmware.
    EventLog {
        EventLogTooLarge "event-log-too-large" "The event log is longer than those of firmware are.";
        EventLogMalformed "event-log-malformed" "The event log does not have its form.";
        EventLogLegacy "event-log-legacy" "The event log has SHA-1 digests alone.";
        EventLogBank "event-log-bank" "The event log has no digests of the bank that was quoted.";
        EventLogRegister "event-log-register" "The event log has an event of a register that no boot extends.";
        EventLogDiffers "event-log-differs" "The event log does not lead to what was quoted.";
    }
    /// Azure VMs whose paravisor has a TPM.
    Azure {
        AzureEvidenceMalformed "azure-evidence-malformed" "The evidence of an Azure VM does not have its form.";
        AzureReportMalformed "azure-report-malformed" "The HCL report does not have its form.";
        AzureReportType "azure-report-type" "The HCL report holds another hardware report than one of SEV-SNP or TDX.";
        AzureTdQuoteMissing "azure-td-quote-missing" "The HCL report is of a TD, and no quote of it was given.";
        AzureRuntimeDataDiffers "azure-runtime-data-differs" "The hardware report does not vouch for the HCL report's runtime data.";
        AzureKeyMissing "azure-key-missing" "The runtime data do not name one attestation key of the TPM.";
    }
    /// Identity documents of clouds.
    Cloud {
        CloudDocumentTooLarge "cloud-document-too-large" "The cloud's document is longer than those of clouds are.";
        CloudDocumentMalformed "cloud-document-malformed" "The cloud's document does not have its form.";
        CloudSignatureAlgorithm "cloud-signature-algorithm" "The cloud's document is not signed by RSA with SHA-256.";
        CloudUntrusted "cloud-untrusted" "No certificate is trusted here for documents of this cloud and region.";
        CloudSignature "cloud-signature" "The cloud's document was not signed by the key of a certificate for it.";
        CloudSigner "cloud-signer" "The certificate that signed is of no metadata service of Azure.";
        CloudIssuer "cloud-issuer" "The token was not issued by Google.";
        CloudInstanceMissing "cloud-instance-missing" "The token does not say of which instance it is.";
        CloudNonceDiffers "cloud-nonce-differs" "The cloud's document was not made for this request.";
        CloudNotYetValid "cloud-not-yet-valid" "The cloud's document begins later than now.";
        CloudExpired "cloud-expired" "The cloud's document is over, or was made too long ago.";
    }
    /// Certificates and revocation lists.
    Certificates {
        EndorsementMalformed "endorsement-malformed" "An endorsement is neither a certificate nor a revocation list nor collateral of Intel's.";
        EndorsementTooLarge "endorsement-too-large" "There are more or longer endorsements than any evidence needs.";
        IssuerMissing "issuer-missing" "The certificate of an issuer was not given.";
        RootUntrusted "root-untrusted" "The chain does not end in a root that is trusted.";
        CertificateUnfit "certificate-unfit" "A certificate must not be used in its place of the chain.";
        CertificateSignature "certificate-signature" "A certificate was not signed by its issuer.";
        CertificateNotYetValid "certificate-not-yet-valid" "A certificate of the chain is not valid yet.";
        CertificateExpired "certificate-expired" "A certificate of the chain has expired.";
        ListSignature "crl-signature" "A revocation list was not signed by the issuer that it names.";
        CertificateRevoked "certificate-revoked" "A certificate of the chain was revoked.";
        ListMissing "crl-missing" "No revocation list of the root was given, and one is demanded.";
        ListStale "crl-stale" "The revocation list is not in force now, and a current one is demanded.";
    }
}

impl Reason {
    /// A refusal for this reason; `detail` names what was found, never secrets.
    #[must_use]
    pub fn because(self, detail: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { reason: self, detail: detail.into() }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// Evidence was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Which check failed.
    pub reason: Reason,
    /// What was found, for whoever looks into it; may be empty.
    pub detail: Cow<'static, str>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        reason.because("")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.code(), self.reason.sentence())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_kebab_case_and_used_once() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let code = reason.code();
            assert!(code.bytes().all(|c| c.is_ascii_lowercase() || c == b'-'), "{code}");
            assert!(reason.sentence().ends_with('.'), "{code}");
        }
    }
}
