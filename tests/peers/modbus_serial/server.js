// A Modbus TCP server by npm's modbus-serial, for tests: node server.js PORT
//
// Each register says where it is and when it was read: address % 512 * 128 + requests % 128. A coil or discrete input is
// 1 where its address is divisible by 3. Device 66 never answers; registers from 1900 on do not exist (exception 2).
// Writes are refused with exception 1. When standard input ends, prints one line of JSON: how many requests there were
// of each function code, and of each device.
"use strict";
const ServerTCP = require("modbus-serial/servers/servertcp");

const functions = {};
const devices = {};
let requests = 0;

function read(address, device, found) {
    if (device === 66) return new Promise(() => {});
    if (address >= 1900) return Promise.reject(Object.assign(new Error("no such register"), { modbusErrorCode: 2 }));
    return Promise.resolve(found);
}

const register = (address) => (address % 512) * 128 + (requests % 128);
const bit = (address, device) => read(address, device, address % 3 === 0);
const refuse = () => Promise.reject(Object.assign(new Error("read only"), { modbusErrorCode: 1 }));

const server = new ServerTCP(
    {
        getCoil: bit,
        getDiscreteInput: bit,
        getHoldingRegister: (address, device) => read(address, device, register(address)),
        getInputRegister: (address, device) => read(address, device, register(address)),
        setCoil: refuse,
        setCoilArray: refuse,
        setRegister: refuse,
        setRegisterArray: refuse,
    },
    { host: "127.0.0.1", port: Number(process.argv[2]), unitID: 255 },
);

// Counted from the bytes, before the library looks at them.
server._server.prependListener("connection", (socket) => {
    let kept = Buffer.alloc(0);
    socket.on("data", (data) => {
        kept = Buffer.concat([kept, data]);
        while (kept.length >= 8 && kept.length >= 6 + kept.readUInt16BE(4)) {
            requests += 1;
            functions[kept[7]] = (functions[kept[7]] || 0) + 1;
            devices[kept[6]] = (devices[kept[6]] || 0) + 1;
            kept = kept.subarray(6 + kept.readUInt16BE(4));
        }
    });
});
server.on("socketError", () => {});
server.on("serverError", (error) => {
    console.error(error.message);
    process.exit(1);
});
server.on("initialized", () => console.log("ready"));

process.stdin.resume();
process.stdin.on("end", () => {
    console.log(JSON.stringify({ functions, devices }));
    process.exit(0);
});
