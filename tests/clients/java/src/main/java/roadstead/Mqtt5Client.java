package roadstead;

import static roadstead.Suite.EVENT_MILLIS;

import java.util.Arrays;
import java.util.List;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttClientException;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.MqttSubscription;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;

/** A client of org.eclipse.paho.mqttv5.client. */
final class Mqtt5Client extends MqttClient {
    private final MqttAsyncClient client;
    final IMqttToken connack;

    Mqtt5Client(MqttOptions options) throws Exception {
        super(options.id);
        client = new MqttAsyncClient(MqttSession.address(), id, new MemoryPersistence());
        client.setCallback(new Events());
        connack = client.connect(packet(options));
        connack.waitForCompletion(EVENT_MILLIS);
    }

    private static MqttConnectionOptions packet(MqttOptions options) {
        MqttConnectionOptions packet = options.five == null ? new MqttConnectionOptions() : options.five;
        packet.setCleanStart(!options.keep);
        packet.setAutomaticReconnect(options.comesBack);
        packet.setAutomaticReconnectDelay(1, 1);
        if (options.keep && packet.getSessionExpiryInterval() == null) {
            packet.setSessionExpiryInterval(0xFFFFFFFFL);
        }
        if (MqttSession.user() != null) {
            packet.setUserName(MqttSession.user());
            packet.setPassword(Session.bytes(MqttSession.password()));
        }
        if (options.will != null) {
            Will will = options.will;
            packet.setWill(will.topic(), message(Session.bytes(will.payload()), will.qos(), will.retained()));
            packet.setWillMessageProperties(will.properties());
        }
        return packet;
    }

    private static MqttMessage message(byte[] payload, int qos, boolean retained) {
        return new MqttMessage(payload, qos, retained, new MqttProperties());
    }

    private final class Events implements MqttCallback {
        @Override
        public void disconnected(MqttDisconnectResponse response) {
            ends.add(response.getReturnCode());
        }

        @Override
        public void mqttErrorOccurred(MqttException exception) {}

        @Override
        public void messageArrived(String topic, MqttMessage got) {
            messages.add(new Message(topic, got.getPayload(), got.getQos(), got.isRetained(), got.getProperties()));
        }

        @Override
        public void deliveryComplete(IMqttToken token) {}

        @Override
        public void connectComplete(boolean again, String address) {}

        @Override
        public void authPacketArrived(int code, MqttProperties properties) {}
    }

    @Override
    boolean sessionPresent() {
        return connack.getSessionPresent();
    }

    @Override
    List<Integer> subscribe(int qos, String... filters) throws Exception {
        return subscribe(new MqttProperties(),
                Arrays.stream(filters).map(filter -> new MqttSubscription(filter, qos)).toArray(MqttSubscription[]::new));
    }

    List<Integer> subscribe(MqttProperties properties, MqttSubscription... subscriptions) throws Exception {
        IMqttToken token = client.subscribe(subscriptions, null, null, properties);
        token.waitForCompletion(EVENT_MILLIS);
        return Arrays.stream(token.getReasonCodes()).boxed().toList();
    }

    @Override
    void unsubscribe(String... filters) throws Exception {
        unsubscribeCodes(filters);
    }

    List<Integer> unsubscribeCodes(String... filters) throws Exception {
        IMqttToken token = client.unsubscribe(filters);
        token.waitForCompletion(EVENT_MILLIS);
        return Arrays.stream(token.getReasonCodes()).boxed().toList();
    }

    @Override
    void publish(String topic, byte[] payload, int qos, boolean retained) throws Exception {
        send(topic, message(payload, qos, retained));
    }

    /** It counts messages that are through, and refuses for a moment where that makes too many. */
    private void send(String topic, MqttMessage message) throws Exception {
        Suite.until(() -> {
            try {
                client.publish(topic, message).waitForCompletion(EVENT_MILLIS);
                return true;
            } catch (MqttException busy) {
                if (busy.getReasonCode() == MqttClientException.REASON_CODE_MAX_INFLIGHT) {
                    return false;
                }
                throw busy;
            }
        }, "the client takes a message");
    }

    void publish(String topic, String payload, MqttProperties properties) throws Exception {
        send(topic, new MqttMessage(Session.bytes(payload), 1, false, properties));
    }

    @Override
    void disconnect() throws Exception {
        client.disconnect().waitForCompletion(EVENT_MILLIS);
        client.close();
    }

    @Override
    void drop() throws Exception {
        client.disconnectForcibly(0, 1, false);
        client.close();
    }
}
