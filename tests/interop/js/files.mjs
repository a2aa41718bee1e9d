// Encrypts or decrypts files with the AWS Encryption SDK, key commitment demanded.
//
//   node files.mjs encrypt --key ARN… [--context NAME=VALUE…] [--frame BYTES] [--cache FILES] [--unsigned] IN OUT [IN OUT…]
//   node files.mjs decrypt --key ARN… [--context NAME=VALUE…] IN OUT [IN OUT…]
//   node files.mjs decrypt --account ACCOUNT IN OUT [IN OUT…]
//
// Of several keys, each alone decrypts. A file is decrypted only if its context has every given pair; with an account,
// by whichever of the account's keys the file names. --unsigned leaves out the signature. --cache reuses a data key for so many files.
//
// Where and as whom is in AWS_ENDPOINT_URL_KMS, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; which CA to believe
// in NODE_EXTRA_CA_CERTS. Prints a line of JSON for each file; ends with 1 if any failed, and leaves nothing of those.

import { createReadStream, createWriteStream } from 'node:fs'
import { rm, stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import {
  AlgorithmSuiteIdentifier,
  CommitmentPolicy,
  KmsKeyringNode,
  NodeCachingMaterialsManager,
  buildClient,
  getLocalCryptographicMaterialsCache,
} from '@aws-crypto/client-node'

const { encryptStream, decryptStream } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    key: { type: 'string', multiple: true, default: [] },
    account: { type: 'string' },
    context: { type: 'string', multiple: true, default: [] },
    frame: { type: 'string', default: '4096' },
    cache: { type: 'string' },
    unsigned: { type: 'boolean', default: false },
  },
})
const [operation, ...files] = positionals
const encryptionContext = Object.fromEntries(options.context.map((pair) => pair.split(/=(.*)/s, 2)))
const frameLength = Number(options.frame)
const suite = options.unsigned
  ? { suiteId: AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY }
  : {}

const keyring = options.account
  ? new KmsKeyringNode({ discovery: true, discoveryFilter: { partition: 'aws', accountIDs: [options.account] } })
  : new KmsKeyringNode({ generatorKeyId: options.key[0], keyIds: options.key.slice(1) })
const materials = options.cache
  ? new NodeCachingMaterialsManager({
      backingMaterials: keyring,
      cache: getLocalCryptographicMaterialsCache(100),
      maxAge: 600_000,
      maxMessagesEncrypted: Number(options.cache),
    })
  : keyring

async function encrypt(input, output) {
  // Only a message of a known length is encrypted with a cached data key. The SDK 5.0.2 counts a piece again for each
  // frame that it goes into, so the pieces are frames.
  const known = options.cache ? { plaintextLength: (await stat(input)).size } : {}
  const stream = encryptStream(materials, { encryptionContext, frameLength, ...suite, ...known })
  await pipeline(createReadStream(input, { highWaterMark: frameLength }), stream, createWriteStream(output))
  return {}
}

async function decrypt(input, output) {
  const stream = decryptStream(materials)
  let context = {}
  stream.once('MessageHeader', (header) => {
    context = header.encryptionContext
    const missing = Object.entries(encryptionContext).find(([name, value]) => context[name] !== value)
    if (missing) stream.destroy(new Error(`the context does not say ${missing.join('=')}`))
  })
  await pipeline(createReadStream(input), stream, createWriteStream(output))
  return { context }
}

const work = { encrypt, decrypt }[operation]
if (!work || files.length % 2) throw new Error('see the beginning of this file')
for (let at = 0; at < files.length; at += 2) {
  const [input, output] = files.slice(at)
  try {
    console.log(JSON.stringify({ file: input, ...(await work(input, output)) }))
  } catch (error) {
    await rm(output, { force: true })
    console.log(JSON.stringify({ file: input, error: error.stack }))
    process.exitCode = 1
  }
}
