// Command suite runs amqp091-go against the broker in AMQP_URI; with `mqtt` as its first argument, the clients of MQTT against
// the broker in MQTT_URI; with `management`, rabbit-hole against the management API in MANAGEMENT_URI.
package main

import (
	"os"
	"time"
)

var checks = []check{
	{name: "declare-durable-queue", run: declareDurableQueue},
	{name: "declare-passive-counts", run: declarePassiveCounts},
	{name: "declare-server-named-queue", run: declareServerNamedQueue},
	{name: "declare-without-waiting", run: declareWithoutWaiting},
	{name: "exclusive-queue-goes-with-its-connection", run: exclusiveQueueGoes},
	{name: "auto-delete-queue-goes-with-its-last-consumer", run: autoDeleteQueueGoes},
	{name: "purge-and-delete-return-counts", run: purgeAndDelete},
	{name: "exchange-direct", run: exchangeDirect},
	{name: "exchange-fanout", run: exchangeFanout},
	{name: "exchange-topic", run: exchangeTopic},
	{name: "exchange-headers", run: exchangeHeaders},
	{name: "exchange-to-exchange-binding", run: exchangeToExchange},

	{name: "publish-with-confirms", run: publishWithConfirms},
	{name: "mandatory-return", run: mandatoryReturn},
	{name: "mandatory-return-before-its-confirm", run: mandatoryReturnBeforeConfirm},
	{name: "message-sizes", run: messageSizes},
	{name: "properties-round-trip", run: propertiesRoundTrip},
	{name: "header-types-round-trip", run: headerTypes},
	{name: "tx-commit", run: transactionCommit},
	{name: "tx-rollback", run: transactionRollback},
	{name: "reject-publish-nacks", run: rejectPublishNacks},

	{name: "consume-with-manual-acks", run: consumeWithManualAcks},
	{name: "get-and-get-empty", run: getAndGetEmpty},
	{name: "ack-multiple", run: ackMultiple},
	{name: "nack-requeue-keeps-the-order", run: nackRequeueKeepsOrder},
	{name: "reject-requeue-and-drop", run: rejectRequeueAndDrop},
	{name: "reject-dead-letters", run: rejectDeadLetters},
	{name: "unacked-messages-return-when-the-connection-goes", run: unackedMessagesReturn},
	{name: "recover-requeues", run: recoverRequeues},
	{name: "prefetch-per-consumer", run: prefetchPerConsumer},
	{name: "cancel-keeps-unacked-deliveries", run: cancelKeepsUnacked},
	{name: "consumer-cancel-notify", run: consumerCancelNotify},
	{name: "direct-reply-to", run: directReplyTo},
	{name: "close-is-no-error", run: closeIsNoError},
	{name: "two-thousand-channels", run: twoThousandChannels, time: 40 * time.Second},

	{name: "expiry-dead-letters", run: expiryDeadLetters},
	{name: "a-shorter-expiration-leaves-first", run: shorterExpirationFirst},
	{name: "unused-queue-expires", run: unusedQueueExpires},
	{name: "deaths-over-two-rounds", run: deathsOverTwoRounds},
	{name: "at-least-once", run: atLeastOnce},
	{name: "delayed-messages-come-at-their-time", run: delayedMessages},
	{name: "priorities-highest-first", run: priorities},
	{name: "consumers-by-priority", run: consumerPriorities},
	{name: "single-active-consumer-is-taken-over-from", run: singleActiveConsumer},
	{name: "delivery-limit-and-count", run: deliveryLimit},
	{name: "consumer-timeout", run: consumerTimeout},
	{name: "max-length-dead-letters", run: maxLengthDeadLetters},
	{name: "reject-publish-dead-letters", run: rejectPublishDeadLetters},
	{name: "consistent-hash-exchange", run: consistentHash},
	{name: "offsets-of-a-stream", run: streamOffsets},
	{name: "many-read-one-stream", run: streamOfManyReaders},
	{name: "an-ack-is-credit-for-a-stream", run: streamCredit},

	{name: "404-missing-queue", run: missingQueue},
	{name: "404-missing-exchange", run: missingExchange},
	{name: "405-exclusive-queue-of-another-connection", run: lockedQueue},
	{name: "406-inequivalent-queue", run: inequivalentQueue},
	{name: "406-inequivalent-exchange", run: inequivalentExchange},
	{name: "406-unknown-delivery-tag", run: unknownDeliveryTag},
	{name: "406-queue-in-use-or-not-empty", run: queueInUseOrNotEmpty},
	{name: "406-modes-of-a-channel", run: channelModes},
	{name: "406-unknown-exchange-type", run: unknownExchangeType},
	{name: "406-message-too-large", run: messageTooLarge},
	{name: "403-reserved-names", run: reservedNames},
	{name: "403-default-exchange", run: defaultExchange},
	{name: "403-internal-exchange", run: internalExchange},
	{name: "403-exclusive-consumer", run: exclusiveConsumer},
	{name: "403-wrong-password", run: wrongPassword},
	{name: "530-missing-vhost", run: missingVhost},
	{name: "530-reused-consumer-tag", run: reusedConsumerTag},
	{name: "540-not-implemented", run: notImplemented},

	{name: "restart-and-automatic-recovery", run: restartAndRecovery, time: 60 * time.Second},
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "mqtt" {
		checks, os.Args = mqttChecks(), os.Args[1:]
	}
	if len(os.Args) > 1 && os.Args[1] == "management" {
		checks, os.Args = managementChecks, os.Args[1:]
	}
	if runSuite(checks) {
		os.Exit(1)
	}
}
