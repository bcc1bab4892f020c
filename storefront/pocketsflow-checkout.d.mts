/// <reference path="./pocketsflow-checkout.d.ts" />

declare const pocketsflow: PocketsflowApi;
export default pocketsflow;
export declare const checkout: PocketsflowApi["checkout"];
export declare const status: PocketsflowApi["status"];
export declare const onStatus: PocketsflowApi["onStatus"];
export declare const texts: PocketsflowApi["texts"];
export declare const PocketsflowError: PocketsflowApi["PocketsflowError"];
