FROM node:22-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --include=dev --ignore-scripts
COPY tsconfig.json ./
COPY bin bin
COPY scripts scripts
COPY src src
COPY queues queues
COPY processors processors
RUN node scripts/build.mjs && npm prune --omit=dev --ignore-scripts

FROM node:22-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/bin bin
COPY --from=build /app/dist dist
COPY LICENSE README.md ./
# There is no redis-server in this image: name a queue server with --queue.
USER node
STOPSIGNAL SIGTERM
CMD ["node", "bin/lanegate.js", "--help"]
