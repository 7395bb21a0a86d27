// Node-RED's settings for the comparison. https://nodered.org/docs/user-guide/runtime/configuration
module.exports = {
  flowFile: "flows.json",
  uiHost: "127.0.0.1",
  uiPort: process.env.PORT,
  httpNodeRoot: "/",
  // The editor is off, as "Securing Node-RED" advises for production: nothing but the flow's own doors listens.
  httpAdminRoot: false,
  // No node may be installed while it runs.
  externalModules: { palette: { allowInstall: false }, modules: { allowInstall: false } },
  // The documented way to give function nodes a module of Node.js: global.get("crypto").
  functionGlobalContext: { crypto: require("crypto") },
  functionExternalModules: false,
  // Context stays in memory: what must survive is in SQLite. The file context writes every 30 s, which a kill would lose.
  contextStorage: { default: { module: "memory" } },
  // A warning for each refused request would be measured as work; errors are shown.
  logging: { console: { level: "error", metrics: false, audit: false } },
  credentialSecret: false,
  telemetry: { enabled: false },
  diagnostics: { enabled: false },
  runtimeState: { enabled: false },
  apiMaxLength: "5mb",
};
