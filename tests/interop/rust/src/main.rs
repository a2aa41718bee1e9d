//! Calls of the AWS SDK for Rust, as its users write them. Ends with status 1 at the first surprise.
//!
//! Where and as whom comes from the environment (AWS_ENDPOINT_URL_KMS, AWS_ACCESS_KEY_ID, …). This SDK does not read
//! AWS_CA_BUNDLE, so its HTTP client is told here which CA to believe.

use std::error::Error;
use std::{env, fs};

use aws_sdk_kms::Client;
use aws_sdk_kms::error::SdkError;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, KeySpec, KeyState, KeyUsageType, MessageType, SigningAlgorithmSpec};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let ca = fs::read(env::var("AWS_CA_BUNDLE")?)?;
    let trusted = TrustStore::empty().with_pem_certificate(ca);
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(TlsContext::builder().with_trust_store(trusted).build()?)
        .build_https();
    let kms = Client::new(&aws_config::from_env().http_client(http).load().await);

    encryption(&kms).await?;
    signatures(&kms).await?;
    listing(&kms).await?;
    println!("all as expected");
    Ok(())
}

async fn encryption(kms: &Client) -> Outcome {
    let key = kms.create_key().description("of the SDK for Rust").send().await?;
    let key = key.key_metadata().ok_or("no metadata")?.clone();
    let arn = key.arn().ok_or("no ARN")?;
    assert_eq!(key.key_state(), Some(&KeyState::Enabled));

    let sealed =
        kms.encrypt().key_id(arn).plaintext(Blob::new("a secret")).encryption_context("table", "customers");
    let sealed = sealed.send().await?;
    assert_eq!(sealed.key_id(), Some(arn));
    let sealed = sealed.ciphertext_blob().ok_or("no ciphertext")?;
    let decrypt = kms.decrypt().ciphertext_blob(sealed.clone());
    let read = decrypt.clone().encryption_context("table", "customers").send().await?;
    assert_eq!(read.plaintext().map(Blob::as_ref), Some(&b"a secret"[..]));

    let refused = decrypt.clone().encryption_context("table", "orders").send().await;
    let refused = refused.expect_err("another context").into_service_error();
    assert!(refused.is_invalid_ciphertext_exception(), "{refused:?}");
    assert_eq!(refused.meta().message(), None);

    let data_key = kms.generate_data_key().key_id(&key.key_id).key_spec(DataKeySpec::Aes256).send().await?;
    assert_eq!(data_key.plaintext().map(|bytes| bytes.as_ref().len()), Some(32));

    kms.disable_key().key_id(&key.key_id).send().await?;
    let refused = decrypt.encryption_context("table", "customers").send().await.expect_err("disabled");
    let SdkError::ServiceError(refused) = refused else { return Err(refused.into()) };
    assert_eq!(refused.raw().status().as_u16(), 400);
    assert!(refused.err().is_disabled_exception(), "{refused:?}");
    assert_eq!(refused.err().meta().message(), Some(format!("{arn} is disabled.").as_str()));

    let refused =
        kms.describe_key().key_id("alias/nobody-made-this").send().await.expect_err("no such alias");
    assert!(refused.into_service_error().is_not_found_exception());

    let deletion = kms.schedule_key_deletion().key_id(arn).pending_window_in_days(7).send().await?;
    assert_eq!(deletion.key_state(), Some(&KeyState::PendingDeletion));
    assert!(deletion.deletion_date().is_some());
    Ok(())
}

async fn signatures(kms: &Client) -> Outcome {
    let key =
        kms.create_key().key_spec(KeySpec::EccNistP256).key_usage(KeyUsageType::SignVerify).send().await?;
    let key = key.key_metadata().ok_or("no metadata")?.key_id().to_owned();
    let algorithm = SigningAlgorithmSpec::EcdsaSha256;
    let message = Blob::new("release 1.0");

    let sign = kms.sign().key_id(&key).message(message.clone()).message_type(MessageType::Raw);
    let signed = sign.signing_algorithm(algorithm.clone()).send().await?;
    let signature = signed.signature().ok_or("no signature")?.clone();
    let verify = kms.verify().key_id(&key).signature(signature).signing_algorithm(algorithm);
    assert!(verify.clone().message(message).send().await?.signature_valid());
    let refused = verify.message(Blob::new("release 1.1")).send().await.expect_err("another message");
    assert!(refused.into_service_error().is_kms_invalid_signature_exception());

    let refused =
        kms.encrypt().key_id(&key).plaintext(Blob::new("x")).send().await.expect_err("a signing key");
    assert!(refused.into_service_error().is_invalid_key_usage_exception());
    Ok(())
}

async fn listing(kms: &Client) -> Outcome {
    for number in 0..5 {
        kms.create_key().description(format!("{number} of the list")).send().await?;
    }
    let mut pages = kms.list_keys().into_paginator().page_size(3).send();
    let (mut keys, mut count) = (Vec::new(), 0);
    while let Some(page) = pages.next().await {
        let page = page?;
        assert!(page.keys().len() <= 3);
        keys.extend(page.keys().iter().filter_map(|key| key.key_id().map(str::to_owned)));
        count += 1;
    }
    let listed = keys.len();
    keys.sort();
    keys.dedup();
    assert!(listed >= 7 && keys.len() == listed && count >= 3, "{listed} keys on {count} pages");
    Ok(())
}
