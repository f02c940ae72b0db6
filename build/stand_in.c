/* A library with the name of one of libtorch's and nothing in it, which the program starts with (docs/design/startup.md).
 *
 * It has the data that tch's C++ half refers to, which must be there before any call, and a mark by which the program tells it
 * from the real one. And where LD_BIND_NOW has all functions bound at the start, which are not here, it has the program start
 * again without that variable. The only code that runs before functions are bound is what an `ifunc` asks which function it
 * is; of this library it runs before those of the program are looked up, and after its own are there. Where a linker does that
 * in another order, they are null, and nothing happens. */

#include <fcntl.h>
#include <unistd.h>

#pragma weak open
#pragma weak read
#pragma weak execve

void *_ZTVN5torch8autograd12AutogradMetaE[64];
void *_ZN3c1019UndefinedTensorImpl10_singletonE[64];
char emoflow_libtorch_stand_in;

enum { BYTES = 1 << 21, TEXTS = 1 << 15 };

struct texts {
  char bytes[BYTES];
  char *each[TEXTS + 1];
};

/* Reads the texts of a file, each of which ends in a zero, but for one that begins with `without` and goes on. Returns
 * whether there was one; less than 0: the file is too long, or cannot be read. */
static int read_texts(const char *path, struct texts *texts, const char *without) {
  int file = open(path, O_RDONLY | O_CLOEXEC), found = 0, count = 0;
  long length = 0, n = 0;
  while (file >= 0 && length < BYTES && (n = read(file, texts->bytes + length, BYTES - length)) > 0) {
    length += n;
  }
  if (file < 0 || n != 0 || length == 0 || texts->bytes[length - 1] != 0) {
    return -1;
  }
  for (long at = 0; at < length; at++) {
    char *text = texts->bytes + at;
    int same = 0;
    while (without[same] && text[same] == without[same]) {
      same++;
    }
    if (same > 0 && !without[same] && text[same]) {
      found = 1;
    } else if (count < TEXTS) {
      texts->each[count++] = text;
    } else {
      return -1;
    }
    while (texts->bytes[at]) {
      at++;
    }
  }
  texts->each[count] = 0;
  return found;
}

static void nothing(void) {}

static void *begin(void) {
  static struct texts environment, arguments;
  if (open && read && execve && read_texts("/proc/self/environ", &environment, "LD_BIND_NOW=") == 1 &&
      read_texts("/proc/self/cmdline", &arguments, "") == 0) {
    execve("/proc/self/exe", arguments.each, environment.each);
  }
  return (void *)nothing;
}

#ifdef __GLIBC__
static void first(void) __attribute__((ifunc("begin")));
__attribute__((visibility("hidden"))) void (*emoflow_first)(void) = first;
#endif
