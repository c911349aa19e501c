package roadstead;

import static roadstead.Branch.refusal;
import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Suite.equal;
import static roadstead.Suite.until;

import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Queue;
import jakarta.jms.Topic;
import javax.transaction.xa.XAException;
import javax.transaction.xa.XAResource;

/** Branches of XA transactions, step by step. */
final class XaBranches {
    private XaBranches() {}

    static void addTo(Suite suite) {
        suite.add("committed-in-two-phases", session -> twoPhases());
        suite.add("committed-in-one-phase", session -> onePhase());
        suite.add("rolled-back-before-it-is-prepared", session -> rolledBack(false));
        suite.add("rolled-back-after-it-is-prepared", session -> rolledBack(true));
        suite.add("a-branch-without-work-is-read-only", session -> readOnly());
        suite.add("steps-out-of-order-are-refused", session -> outOfOrder());
        suite.add("suspended-and-resumed", session -> suspended());
        suite.add("two-connections-in-one-branch", session -> joined());
        suite.add("what-is-not-prepared-goes-with-its-connection", session -> lost());
        suite.add("what-is-prepared-does-not-go-with-its-connection", session -> abandoned(true));
        suite.add("an-abandoned-branch-is-rolled-back-by-another", session -> abandoned(false));
        suite.add("a-durable-subscription-in-a-branch", session -> subscription());
        suite.add("prepared-branches-over-a-restart", 60_000, session -> restart());
    }

    private static void twoPhases() throws Exception {
        try (Jms jms = Jms.open(); Branch branch = Branch.begun()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            jms.send(from, "in");
            MessageConsumer committed = jms.consumer(to);
            expect(branch.consumer(from), "in");
            branch.send(to, "out 1", "out 2");
            nothing(committed);
            equal(branch.prepare(), XAResource.XA_OK, "the vote");
            nothing(committed);
            branch.commit();
            expect(committed, "out 1", "out 2");
            equal(branch.recovered(), null, "what is still prepared");
            branch.close();
            nothing(jms.consumer(from));
        }
    }

    private static void onePhase() throws Exception {
        try (Jms jms = Jms.open(); Branch branch = Branch.begun()) {
            Queue queue = jms.queue("one");
            Topic topic = jms.topic("one");
            MessageConsumer fromTopic = jms.consumer(topic);
            branch.send(queue, "x");
            branch.send(topic, "y");
            branch.end();
            branch.resource.commit(branch.xid, true);
            expect(jms.consumer(queue), "x");
            expect(fromTopic, "y");
        }
    }

    private static void rolledBack(boolean isPrepared) throws Exception {
        try (Jms jms = Jms.open(); Branch branch = Branch.begun()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            jms.send(from, "in");
            MessageConsumer consumer = branch.consumer(from);
            expect(consumer, "in");
            branch.send(to, "out");
            if (isPrepared) {
                equal(branch.prepare(), XAResource.XA_OK, "the vote");
            } else {
                branch.end();
            }
            branch.rollback();
            nothing(jms.consumer(to));
            // The client has it still, and may acknowledge it in another branch.
            Branch next = branch;
            next.resource.start(next.xid, XAResource.TMNOFLAGS);
            Message again = consumer.receive(PATIENCE);
            equal(Jms.text(again), "in", "what comes again");
            equal(again.getJMSRedelivered(), true, "whether it came before");
            next.end();
            next.resource.commit(next.xid, true);
            branch.close();
            nothing(jms.consumer(from));
        }
    }

    private static void readOnly() throws Exception {
        try (Branch branch = Branch.begun()) {
            equal(branch.prepare(), XAResource.XA_RDONLY, "the vote");
            equal(branch.recovered(), null, "what is prepared");
        }
    }

    private static void outOfOrder() throws Exception {
        try (Jms jms = Jms.open(); Branch branch = Branch.begun()) {
            branch.send(jms.queue("order"), "x");
            branch.end();
            equal(refusal(branch::commit), XAException.XAER_PROTO, "committing in two phases what is not prepared");
            branch.rollback();
            equal(refusal(branch::commit), XAException.XAER_NOTA, "committing what is over");
            equal(refusal(branch::rollback), XAException.XAER_NOTA, "rolling back what is over");
            equal(refusal(() -> branch.resource.prepare(branch.xid)), XAException.XAER_NOTA, "preparing what is over");
        }
    }

    private static void suspended() throws Exception {
        try (Jms jms = Jms.open(); Branch branch = Branch.begun()) {
            Queue queue = jms.queue("suspended");
            branch.send(queue, "before");
            branch.resource.end(branch.xid, XAResource.TMSUSPEND);
            branch.resource.start(branch.xid, XAResource.TMRESUME);
            branch.send(queue, "after");
            equal(branch.prepare(), XAResource.XA_OK, "the vote");
            branch.commit();
            expect(jms.consumer(queue), "before", "after");
        }
    }

    private static void joined() throws Exception {
        try (Jms jms = Jms.open(); Branch first = Branch.begun(); Branch second = Branch.of(first.xid)) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            jms.send(from, "in");
            equal(first.resource.isSameRM(second.resource), true, "whether a transaction manager may join them");
            second.resource.start(second.xid, XAResource.TMJOIN);
            expect(first.consumer(from), "in");
            second.send(to, "out");
            second.end();
            equal(first.prepare(), XAResource.XA_OK, "the vote");
            first.commit();
            expect(jms.consumer(to), "out");
            first.close();
            second.close();
            nothing(jms.consumer(from));
        }
    }

    private static void lost() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            jms.send(from, "in");
            Branch branch = Branch.begun();
            expect(branch.consumer(from), "in");
            branch.send(to, "out");
            branch.die();
            expect(jms.consumer(from), "in");
            nothing(jms.consumer(to));
            try (Branch other = Branch.of(branch.xid)) {
                equal(refusal(() -> other.resource.prepare(other.xid)), XAException.XAER_NOTA, "preparing what is gone");
            }
        }
    }

    private static void abandoned(boolean isCommitted) throws Exception {
        try (Jms jms = Jms.open()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            jms.send(from, "in");
            Branch branch = Branch.begun();
            expect(branch.consumer(from), "in");
            branch.send(to, "out");
            equal(branch.prepare(), XAResource.XA_OK, "the vote");
            branch.die();
            MessageConsumer fromFrom = jms.consumer(from);
            MessageConsumer fromTo = jms.consumer(to);
            nothing(fromFrom);
            nothing(fromTo);
            try (Branch other = Branch.of(branch.xid)) {
                until(() -> other.recovered() != null, "the branch can be recovered");
                if (isCommitted) {
                    other.commit();
                    expect(fromTo, "out");
                    nothing(fromFrom);
                } else {
                    other.rollback();
                    expect(fromFrom, "in");
                    nothing(fromTo);
                }
                equal(other.recovered(), null, "what is still prepared");
            }
        }
    }

    private static void subscription() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client")); Branch branch = Branch.begun()) {
            Topic topic = jms.topic("durable");
            MessageConsumer durable = jms.session.createDurableSubscriber(topic, "sub");
            branch.send(topic, "x");
            equal(branch.prepare(), XAResource.XA_OK, "the vote");
            nothing(durable);
            branch.commit();
            expect(durable, "x");
            durable.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void restart() throws Exception {
        Branch committed = Branch.begun();
        Branch rolledBack = Branch.begun();
        Branch unprepared = Branch.begun();
        Queue from;
        Queue to;
        try (Jms jms = Jms.open()) {
            from = jms.session.createQueue(Jms.unique("from"));
            to = jms.session.createQueue(Jms.unique("to"));
            jms.send(from, "in 1", "in 2", "in 3", "in 4");
        }
        // Each has one message before it says which.
        for (Branch branch : new Branch[] {committed, rolledBack, unprepared}) {
            MessageConsumer consumer =
                branch.session.createConsumer(branch.session.createQueue(from.getQueueName() + "?consumer.prefetchSize=0"));
            equal(consumer.receive(PATIENCE) != null, true, "whether there was a message");
        }
        committed.send(to, "committed 1", "committed 2");
        rolledBack.send(to, "rolled back");
        unprepared.send(to, "not prepared");
        equal(committed.prepare(), XAResource.XA_OK, "the vote");
        equal(rolledBack.prepare(), XAResource.XA_OK, "the vote");
        Suite.restartBroker();
        try (Jms jms = Jms.open(); Branch one = Branch.of(committed.xid); Branch two = Branch.of(rolledBack.xid);
                Branch three = Branch.of(unprepared.xid)) {
            equal(three.recovered(), null, "what was not prepared");
            MessageConsumer fromFrom = jms.consumer(from);
            MessageConsumer fromTo = jms.consumer(to);
            // The branch that was not prepared has let go of its message; the prepared ones have not.
            expect(fromFrom, "in 3", "in 4");
            nothing(fromFrom);
            nothing(fromTo);
            equal(one.recovered() != null && two.recovered() != null, true, "whether both are there");
            one.resource.commit(one.recovered(), false);
            expect(fromTo, "committed 1", "committed 2");
            two.resource.rollback(two.recovered());
            expect(fromFrom, "in 2");
            nothing(fromFrom);
            nothing(fromTo);
            fromFrom.close();
            fromTo.close();
            jms.forget(from);
            jms.forget(to);
        }
    }
}
