import { FileSource, type FileSourceOptions } from './file-source.ts';

/** An append-only file of Redis or Valkey: a directory with a manifest, a manifest, or one file, also with an RDB in front. */
export function openAof(options: Omit<FileSourceOptions, 'kind' | 'check'>): FileSource {
  return new FileSource({ ...options, kind: 'aof' });
}
