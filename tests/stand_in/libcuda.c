/* Stands in for NVIDIA's driver, which the program looks for, and for what it asks of CUDA's runtime itself; to be loaded
   before the real runtime, which is part of libtorch. libtorch_cuda.cpp has the rest. */

#include <stdlib.h>

static _Thread_local int current;

int cudaGetDevice(int *index) {
  *index = current;
  return 0;
}

int cudaSetDevice(int index) {
  current = index;
  return 0;
}

int cudaMemGetInfo(size_t *free, size_t *total) {
  const char *bytes = getenv("STAND_IN_MEMORY");
  *free = *total = bytes ? strtoull(bytes, NULL, 10) : (size_t)1 << 34;
  return 0;
}
