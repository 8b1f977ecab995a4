// AES-256-GCM and HKDF-SHA256 of libcrypto, as the few calls that the engine makes. What libcrypto
// offers as macros, or by arrays of parameters, cannot be called from Swift.

#ifndef MARTLET_CRYPTO_SHIM_H
#define MARTLET_CRYPTO_SHIM_H

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/modes.h>
#include <openssl/params.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MARTLET_GCM_TAG_BYTES 16

/// The cipher, fetched once by the caller and kept; null if this libcrypto has none.
static inline EVP_CIPHER *martlet_gcm_fetch(void) {
    return EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
}

/// A context with its key schedule made, for one direction; null if libcrypto refuses.
static inline EVP_CIPHER_CTX *martlet_gcm_context(
    const EVP_CIPHER *cipher, const uint8_t *key, int seals) {
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (context == NULL) return NULL;
    if (EVP_CipherInit_ex(context, cipher, NULL, key, NULL, seals) != 1) {
        EVP_CIPHER_CTX_free(context);
        return NULL;
    }
    return context;
}

/// The message is `head`, changed in place, followed by `from`, which goes to `to` (the two may be
/// the same place).
struct martlet_gcm_message {
    const uint8_t *nonce;  // 12 bytes
    const uint8_t *authenticated;
    size_t authenticated_count;
    uint8_t *head;
    size_t head_count;
    const uint8_t *from;
    uint8_t *to;
    size_t count;
};

static inline int martlet_gcm_run(EVP_CIPHER_CTX *context, const struct martlet_gcm_message *m) {
    int written = 0;
    // The key stays as it is: only the nonce is new.
    if (EVP_CipherInit_ex(context, NULL, NULL, NULL, m->nonce, -1) != 1) return 0;
    if (m->authenticated_count > 0
        && EVP_CipherUpdate(
               context, NULL, &written, m->authenticated, (int)m->authenticated_count) != 1)
        return 0;
    if (m->head_count > 0
        && EVP_CipherUpdate(context, m->head, &written, m->head, (int)m->head_count) != 1)
        return 0;
    if (m->count > 0
        && EVP_CipherUpdate(context, m->to, &written, m->from, (int)m->count) != 1)
        return 0;
    return 1;
}

/// 1, or 0 if libcrypto refuses.
static inline int martlet_gcm_seal(
    EVP_CIPHER_CTX *context, const struct martlet_gcm_message *m, uint8_t *tag) {
    int written = 0;
    uint8_t rest[16];
    return martlet_gcm_run(context, m) == 1 && EVP_CipherFinal_ex(context, rest, &written) == 1
        && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, MARTLET_GCM_TAG_BYTES, tag) == 1;
}

/// 1 if the tag holds. The plain bytes are written in any case.
static inline int martlet_gcm_open(
    EVP_CIPHER_CTX *context, const struct martlet_gcm_message *m, const uint8_t *tag) {
    int written = 0;
    uint8_t rest[16];
    return martlet_gcm_run(context, m) == 1
        && EVP_CIPHER_CTX_ctrl(
               context, EVP_CTRL_AEAD_SET_TAG, MARTLET_GCM_TAG_BYTES, (void *)tag) == 1
        && EVP_CipherFinal_ex(context, rest, &written) == 1;
}

// Small messages. Through EVP half of a short message's time goes into calls that pass parameters by
// name. So the same is done with libcrypto's parts: all blocks of the key stream by one call of
// AES-256-ECB, and GCM by its `CRYPTO_gcm128` functions, which are made for any block cipher.

#define MARTLET_GCM_SMALL_BYTES 1024

/// Seals one message at a time.
struct martlet_gcm_small {
    EVP_CIPHER_CTX *blocks;
    GCM128_CONTEXT *mode;
    const uint8_t *next;  // in `stream`; null if nothing is prepared there
    uint8_t stream[16 + MARTLET_GCM_SMALL_BYTES];
};

static inline void martlet_gcm_small_block(
    const unsigned char in[16], unsigned char out[16], const void *key) {
    struct martlet_gcm_small *small = (struct martlet_gcm_small *)key;
    if (small->next == NULL) {
        EVP_Cipher(small->blocks, out, in, 16);
        return;
    }
    memcpy(out, small->next, 16);
    small->next += 16;
}

static inline void martlet_gcm_small_stream(
    const unsigned char *in, unsigned char *out, size_t blocks, const void *key,
    const unsigned char counter[16]) {
    struct martlet_gcm_small *small = (struct martlet_gcm_small *)key;
    (void)counter;
    for (size_t at = 0; at < 16 * blocks; at += 8) {
        uint64_t word, mask;
        memcpy(&word, in + at, 8);
        memcpy(&mask, small->next + at, 8);
        word ^= mask;
        memcpy(out + at, &word, 8);
    }
    small->next += 16 * blocks;
}

static inline void martlet_gcm_small_free(struct martlet_gcm_small *small) {
    if (small == NULL) return;
    EVP_CIPHER_CTX_free(small->blocks);
    CRYPTO_gcm128_release(small->mode);
    OPENSSL_cleanse(small, sizeof *small);
    free(small);
}

/// AES-256-ECB, fetched once by the caller and kept; null if this libcrypto has none.
static inline EVP_CIPHER *martlet_ecb_fetch(void) {
    return EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
}

/// Null if libcrypto refuses.
static inline struct martlet_gcm_small *martlet_gcm_small_new(
    const EVP_CIPHER *cipher, const uint8_t *key) {
    struct martlet_gcm_small *small = (struct martlet_gcm_small *)calloc(1, sizeof *small);
    if (small == NULL) return NULL;
    small->blocks = EVP_CIPHER_CTX_new();
    if (small->blocks != NULL && EVP_CipherInit_ex(small->blocks, cipher, NULL, key, NULL, 1) == 1
        && EVP_CIPHER_CTX_set_padding(small->blocks, 0) == 1)
        small->mode = CRYPTO_gcm128_new(small, martlet_gcm_small_block);
    if (small->mode != NULL) return small;
    martlet_gcm_small_free(small);
    return NULL;
}

/// As `martlet_gcm_seal`, for a message without a head, of MARTLET_GCM_SMALL_BYTES at most.
static inline int martlet_gcm_small_seal(
    struct martlet_gcm_small *small, const struct martlet_gcm_message *m, uint8_t *tag) {
    size_t blocks = 1 + (m->count + 15) / 16;
    for (size_t block = 0; block < blocks; block++) {
        uint8_t *at = small->stream + 16 * block;
        memcpy(at, m->nonce, 12);
        at[12] = at[13] = 0;
        at[14] = (uint8_t)((block + 1) >> 8);
        at[15] = (uint8_t)(block + 1);
    }
    if (EVP_Cipher(small->blocks, small->stream, small->stream, (unsigned)(16 * blocks)) <= 0)
        return 0;
    small->next = small->stream;
    CRYPTO_gcm128_setiv(small->mode, m->nonce, 12);
    int done = CRYPTO_gcm128_aad(small->mode, m->authenticated, m->authenticated_count) == 0
        && (m->count == 0
            || CRYPTO_gcm128_encrypt_ctr32(
                   small->mode, m->from, m->to, m->count, martlet_gcm_small_stream) == 0);
    CRYPTO_gcm128_tag(small->mode, tag, MARTLET_GCM_TAG_BYTES);
    small->next = NULL;
    return done;
}

/// HKDF (RFC 5869) with SHA-256, extract and expand. 1, or 0 if libcrypto refuses.
static inline int martlet_hkdf_sha256(
    const uint8_t *key, size_t key_count, const uint8_t *salt, size_t salt_count,
    const char *info, size_t info_count, uint8_t *out, size_t out_count) {
    EVP_KDF *function = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = function == NULL ? NULL : EVP_KDF_CTX_new(function);
    OSSL_PARAM parameters[5];
    int done = 0;
    if (context != NULL) {
        parameters[0] =
            OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0);
        parameters[1] =
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key, key_count);
        parameters[2] =
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_count);
        parameters[3] =
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, info_count);
        parameters[4] = OSSL_PARAM_construct_end();
        done = EVP_KDF_derive(context, out, out_count, parameters);
    }
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(function);
    return done == 1;
}

#endif
