import { checkRdb } from './aof/rdb-check.ts';
import { FileSource, type FileSourceOptions } from './file-source.ts';

/** An append-only file of Redis or Valkey: a directory with a manifest, a manifest, or one file, also with an RDB in front. */
export function openAof(options: Omit<FileSourceOptions, 'kind' | 'check'>): FileSource {
  const { onNotice } = options;
  return new FileSource({
    ...options,
    kind: 'aof',
    check: async ([first], signal) => {
      // Where an RDB ends that commands follow in the same file is known only when it is read.
      const isWhole = first?.hasRdb === true && first.id !== 'file';
      if (isWhole) await checkRdb(first, { signal, onNotice });
    },
  });
}
