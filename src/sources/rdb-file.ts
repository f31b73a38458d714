import { FileSource, type FileSourceOptions } from './file-source.ts';

/** One snapshot; its checksum is looked at before its first key is applied. */
export function openRdbFile(options: Omit<FileSourceOptions, 'kind' | 'check'>): FileSource {
  return new FileSource({ ...options, kind: 'rdb' });
}
