import { RdbError } from '../rdb/rdb-error.ts';
import type { LogFile } from './aof/files.ts';
import { malformedRdb } from './aof/log.ts';
import { checkRdb } from './aof/rdb-check.ts';
import { FileSource, type FileSourceOptions } from './file-source.ts';

/**
 * One snapshot as a log: its keys, then its end. Nothing is flushed before them: what becomes of data that the target
 * has is decided at the pipeline's first start.
 */
export function openRdbFile(options: Omit<FileSourceOptions, 'kind' | 'check'>): FileSource {
  const { onNotice } = options;
  return new FileSource({
    ...options,
    kind: 'rdb',
    check: async ([file], signal) => {
      const { path, hasRdb } = file as LogFile;
      if (!hasRdb) throw malformedRdb(path, new RdbError(0, "'REDIS' or 'VALKEY' and a version"));
      await checkRdb(file as LogFile, { signal, onNotice });
    },
  });
}
