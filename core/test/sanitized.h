/* Whether a program that is tested may fork. */
#ifndef HPCM_SANITIZED_H
#define HPCM_SANITIZED_H

/* A child of fork() has the locks of the sanitizers' runtimes as other threads held them, and waits for ever. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif
#ifdef SANITIZED
enum { FORKS = 0 };
#else
enum { FORKS = 1 };
#endif

#endif
