// A read-only file system that shows another folder through a server of limited bandwidth, which all readers share and
// nothing caches: what hosts see of a network file system. For bench/weights/loading.py.
//
//   cc -O2 slow_files.c $(pkg-config --cflags --libs fuse3) -o slow_files
//   slow_files FOLDER MEGABYTES_PER_SECOND -f MOUNTPOINT
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *folder;
static double bytes_per_second;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static double server_free_at;  // seconds of the monotonic clock

static void path_of(char *to, const char *name) { snprintf(to, PATH_MAX, "%s%s", folder, name); }

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// Waits until the server has sent so many bytes after all that were asked for before.
static void take_turn(double bytes) {
  pthread_mutex_lock(&mutex);
  const double begin = now();
  if (server_free_at < begin) server_free_at = begin;
  server_free_at += bytes / bytes_per_second;
  const double wait = server_free_at - begin;
  pthread_mutex_unlock(&mutex);
  const struct timespec sleep = {(time_t)wait, (long)(1e9 * (wait - (double)(time_t)wait))};
  nanosleep(&sleep, NULL);
}

static int look(const char *name, struct stat *status, struct fuse_file_info *info) {
  char path[PATH_MAX];
  (void)info;
  path_of(path, name);
  return stat(path, status) == 0 ? 0 : -errno;
}

static int list(const char *name, void *buffer, fuse_fill_dir_t fill, off_t offset,
                struct fuse_file_info *info, enum fuse_readdir_flags flags) {
  char path[PATH_MAX];
  (void)offset, (void)info, (void)flags;
  path_of(path, name);
  DIR *entries = opendir(path);
  if (entries == NULL) return -errno;
  for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
    fill(buffer, entry->d_name, NULL, 0, 0);
  }
  closedir(entries);
  return 0;
}

static int open_file(const char *name, struct fuse_file_info *info) {
  char path[PATH_MAX];
  path_of(path, name);
  const int file = open(path, O_RDONLY);
  if (file < 0) return -errno;
  info->fh = (uint64_t)file;
  info->direct_io = 1;  // no page cache: this machine pretends to be several
  return 0;
}

static int read_file(const char *name, char *to, size_t bytes, off_t offset,
                     struct fuse_file_info *info) {
  (void)name;
  const ssize_t got = pread((int)info->fh, to, bytes, offset);
  if (got > 0) take_turn((double)got);
  return got < 0 ? -errno : (int)got;
}

static int close_file(const char *name, struct fuse_file_info *info) {
  (void)name;
  close((int)info->fh);
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: slow_files FOLDER MEGABYTES_PER_SECOND -f MOUNTPOINT\n");
    return 2;
  }
  folder = argv[1];
  bytes_per_second = 1e6 * atof(argv[2]);
  argv[2] = argv[0];
  const struct fuse_operations operations = {
      .getattr = look, .readdir = list, .open = open_file, .read = read_file, .release = close_file};
  return fuse_main(argc - 2, argv + 2, &operations, NULL);
}
