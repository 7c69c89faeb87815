// An OPC UA server that linetally did not write: node-opcua, with what a test tells it.
//
// node server.js '{"port": …, "folder": …, …}'. It says "ready", then the name of each request that it gets, one JSON
// line each, so that a test knows what was asked even of a server that it killed. Commands come as JSON lines on
// standard input. Under Objects it has the folder "line" with State, Total, Product and, where wanted, Tag0 … TagN.
"use strict";
const readline = require("node:readline");
const opcua = require("node-opcua-server");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { MessageSecurityMode, SecurityPolicy } = require("node-opcua-secure-channel");
const { DataType, Variant } = require("node-opcua-variant");
const { StatusCodes } = require("node-opcua-status-code");

const options = JSON.parse(process.argv[2]);
const say = (words) => process.stdout.write(JSON.stringify(words) + "\n");

function variable(namespace, folder, name, at, idPrefix = "s=line/") {
    const kind = name === "Product" ? DataType.String : DataType.Int32;
    return namespace.addVariable({
        componentOf: folder,
        browseName: name,
        nodeId: `${idPrefix}${name}`,
        dataType: kind,
        value: new Variant({ dataType: kind, value: at }),
    });
}

async function main() {
    const manager = (name) =>
        new OPCUACertificateManager({
            rootFolder: `${options.folder}/${name}`,
            automaticallyAcceptUnknownCertificate: options.acceptUnknown !== false,
        });
    const server = new opcua.OPCUAServer({
        port: options.port,
        hostname: "127.0.0.1",
        alternateHostname: ["127.0.0.1"],
        serverInfo: { applicationUri: options.applicationUri },
        certificateFile: options.certificate,
        privateKeyFile: options.key,
        serverCertificateManager: manager("pki"),
        userCertificateManager: manager("users"),
        securityModes: options.modes.map((mode) => MessageSecurityMode[mode]),
        securityPolicies: options.policies.map((policy) => SecurityPolicy[policy]),
        allowAnonymous: options.anonymous !== false,
        userManager: { isValidUser: (name, word) => (options.users || {})[name] === word },
        defaultSecureTokenLifetime: options.tokenLifetime || 600000,
        serverCapabilities: {
            maxSessions: 10,
            maxMonitoredItems: 100000,
            maxMonitoredItemsPerSubscription: 100000,
            operationLimits: options.limits || {},
        },
        registerServerMethod: opcua.RegisterServerMethod.HIDDEN,
    });
    server.on("request", (request) => say({ request: request.schema.name }));
    await server.initialize();
    const space = server.engine.addressSpace;
    for (const uri of options.before || []) space.registerNamespace(uri);
    const namespace = space.registerNamespace(options.namespace);
    const folder = namespace.addFolder("ObjectsFolder", { browseName: "line", nodeId: "s=line" });
    const nodes = new Map();
    for (const name of ["State", "Total", "Product"]) {
        nodes.set(name, variable(namespace, folder, name, name === "Product" ? "" : 0));
    }
    for (let i = 0; i < (options.tags || 0); i++) nodes.set(`Tag${i}`, variable(namespace, folder, `Tag${i}`, i));
    await server.start();
    const commands = {
        set: ({ name, value, status }) => {
            const kind = name === "Product" ? DataType.String : DataType.Int32;
            const code = StatusCodes[status || "Good"];
            nodes.get(name).setValueFromSource(new Variant({ dataType: kind, value }), code);
        },
        burst: ({ name, until }) => {
            for (let value = 1; value <= until; value++) commands.set({ name, value });
        },
        add: ({ name, value, idPrefix }) => nodes.set(name, variable(namespace, folder, name, value, idPrefix)),
        remove: ({ name }) => space.deleteNode(nodes.get(name)),
        count: () => {}, // its answer comes after the names of all requests before it
        stop: () => server.shutdown(0).then(() => process.exit(0)),
    };
    readline.createInterface({ input: process.stdin }).on("line", (line) => {
        const order = JSON.parse(line);
        commands[order.do](order);
        say({ done: order.do });
    });
    process.stdin.on("end", () => process.exit(0)); // it never outlives the test
    say({ ready: true });
}

main().catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
});
